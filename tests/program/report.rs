//! Pictures and the one-page report, through the program; the page is driven in a headless browser where there is one
//! ($CHROMIUM, chromium, chromium-browser, google-chrome).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tiny_skia::Pixmap;

fn sccrossrec(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("sccrossrec").unwrap().args(args).output().unwrap()
}

fn ok(args: &[&str]) -> Value {
    let out = sccrossrec(&[args, &["--json", "--quiet"]].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document on stdout")
}

/// The one line of a refusal.
fn refused(args: &[&str]) -> String {
    let out = sccrossrec(args);
    assert_eq!(out.status.code(), Some(2), "{args:?}");
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(text.lines().filter(|l| l.starts_with("error:")).count(), 1, "{text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A gene name that tries to be more than a name, and what takes its place in the tables.
const HOSTILE: &str = "</script><img src=x onerror=\"document.title='owned'\">";
const HOSTILE_TYPE: &str = "<b onmouseover=alert(1)>&amp;'\"";

struct Made {
    _dir: tempfile::TempDir,
    run: PathBuf,
    found: PathBuf,
    data: PathBuf,
    /// The gene of the best link, whose name is not hostile.
    gene: String,
    /// A cell with attention.
    cell: String,
}

/// A small run and its discovery, made once.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let (demo, found) = (place("demo"), place("found"));
        let sizes = ["--cells", "160", "--genes", "40", "--peaks", "150", "--chromosomes", "3", "--cell-types", "3"];
        ok(&[&["demo", "--epochs", "3", "--threads", "2", "--out", text(&demo)], &sizes[..]].concat());
        let (run, data) = (demo.join("run"), demo.join("data"));
        // Of so few cells every pair counts, so that every type has links.
        let all = ["--max-q", "1", "--min-type-cells", "15"];
        ok(&[&["discover", "--run", text(&run), "--out", text(&found)], &all[..]].concat());
        // Rename the first gene and the first type in every table.
        let genes = std::fs::read_to_string(found.join("genes.tsv")).unwrap();
        let header: Vec<&str> = genes.lines().next().unwrap().split('\t').collect();
        let (hostile, kind) = (genes.lines().nth(1).unwrap().split('\t').nth(2).unwrap(), header[4]);
        let names = ["genes", "peaks", "links", "links-untested", "attention", "attention-genes", "attention-peaks"];
        let mut tables: Vec<PathBuf> = names.iter().map(|name| found.join(format!("{name}.tsv"))).collect();
        for folder in ["links", "attention"] {
            tables.extend(std::fs::read_dir(found.join(folder)).unwrap().map(|e| e.unwrap().path()));
        }
        for table in &tables {
            let whole = std::fs::read_to_string(table).unwrap();
            let rename = |f: &str| match f {
                _ if f == hostile => HOSTILE.to_string(),
                _ if f == kind => HOSTILE_TYPE.to_string(),
                f => f.to_string(),
            };
            let lines = whole.lines().map(|l| l.split('\t').map(rename).collect::<Vec<_>>().join("\t"));
            std::fs::write(table, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        }
        let record = found.join("discover.json");
        let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
        for what in ["links", "attention"] {
            for t in json[what]["cell_types"].as_array_mut().unwrap() {
                if t["cell_type"] == kind {
                    t["cell_type"] = HOSTILE_TYPE.into();
                }
            }
        }
        std::fs::write(&record, json.to_string()).unwrap();
        let links = std::fs::read_to_string(found.join("links.tsv")).unwrap();
        let mut names = links.lines().skip(1).map(|l| l.split('\t').nth(4).unwrap().to_string());
        let gene = names.find(|n| n != HOSTILE).unwrap();
        let file = hdf5::File::open(found.join("attention.h5")).unwrap();
        let cells: Vec<hdf5::types::VarLenUnicode> = file.dataset("cells").unwrap().read_raw().unwrap();
        let indptr: Vec<u64> = file.dataset("indptr").unwrap().read_raw().unwrap();
        let row = (0..cells.len()).find(|&i| indptr[i + 1] > indptr[i] + 3).unwrap();
        let cell = cells[row].to_string();
        Made { _dir: dir, run, found, data, gene, cell }
    })
}

fn browser() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let given = std::env::var_os("CHROMIUM").map(PathBuf::from);
        let names = ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from);
        let works = |p: &PathBuf| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success());
        given.into_iter().chain(names).find(works)
    });
    if found.is_none() {
        println!("SKIPPED: no chromium, chromium-browser or google-chrome on the PATH ($CHROMIUM names one)");
    }
    found.clone()
}

/// What the browser says of a page: standard output, and the lines of its console.
fn browse(browser: &Path, flags: &[&str], page: &Path, fragment: &str) -> (String, Vec<String>) {
    let profile = tempfile::tempdir().unwrap();
    let out = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--no-first-run", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=8000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(flags)
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let log = String::from_utf8_lossy(&out.stderr).into_owned();
    let console = log.lines().filter(|l| l.contains(":CONSOLE")).map(String::from).collect();
    (String::from_utf8(out.stdout).unwrap(), console)
}

fn dom(browser: &Path, page: &Path, fragment: &str) -> String {
    let (dom, console) = browse(browser, &["--dump-dom"], page, fragment);
    assert!(console.is_empty(), "{console:#?}");
    dom
}

fn screenshot(browser: &Path, page: &Path, fragment: &str, width: u32, height: u32) -> Pixmap {
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let size = format!("--window-size={width},{height}");
    let to = format!("--screenshot={}", file.path().display());
    let (_, console) = browse(browser, &[&size, &to], page, fragment);
    assert!(console.is_empty(), "{console:#?}");
    Pixmap::load_png(file.path()).unwrap()
}

fn colours(p: &Pixmap) -> usize {
    let all: std::collections::HashSet<[u8; 3]> = p.pixels().iter().map(|p| [p.red(), p.green(), p.blue()]).collect();
    all.len()
}

/// The part of `page` between two strings.
fn between<'t>(page: &'t str, from: &str, to: &str) -> &'t str {
    let start = page.find(from).unwrap_or_else(|| panic!("no {from}")) + from.len();
    &page[start..start + page[start..].find(to).unwrap()]
}

fn report(out: &Path, more: &[&str]) -> String {
    let made = made();
    let said = ok(&[&["report", text(&made.run), "--discovery", text(&made.found), "--out", text(out)], more].concat());
    let page = std::fs::read_to_string(out).unwrap();
    assert_eq!(said["bytes"].as_u64().unwrap(), page.len() as u64);
    page
}

#[test]
fn the_page_is_whole_and_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    let page = report(&out, &[]);
    // Nothing is fetched, by policy and in fact.
    assert!(page.contains("default-src 'none'") && page.contains("base-uri 'none'") && !page.contains("unsafe-"));
    let bare = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!bare.contains("http:") && !bare.contains("https:") && !bare.contains("//www"));
    let tags = page.split('<').filter(|t| t.starts_with(|c: char| c.is_ascii_alphabetic()));
    for tag in tags.map(|t| t.split('>').next().unwrap()) {
        assert!(!tag.contains("src="), "{tag}");
    }
    assert!(!page.contains("<link") && !page.contains("@import") && !page.contains("url("));
    // Names are text: in HTML, in SVG and in the script's data.
    assert!(!page.contains("<img") && !page.contains("<b onmouseover"));
    let texts =
        [r"\u003c/script\u003e\u003cimg", r"\u003cb onmouseover=alert(1)\u003e\u0026amp;'", "&lt;b onmouseover="];
    for text in texts {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("</script>").count(), 2);
    // Figures are those of the program.
    let accuracy = ok(&["evaluate", "--run", text(&made().run)])["matching"]["model"]["accuracy"].as_f64().unwrap();
    assert!(between(&page, "<td>accuracy</td>", "</tr>").contains(&format!(">{accuracy:.4}</td>")));
    // Fewer links, smaller page.
    let small = report(&dir.path().join("s.html"), &["--links", "5", "--no-embedding"]);
    assert!(small.len() + 2000 < page.len(), "{} {}", small.len(), page.len());
    // From the discovery, which names its run, comes the same but for the heading.
    let other = dir.path().join("o.html");
    ok(&["report", text(&made().found), "--out", text(&other)]);
    let other = std::fs::read_to_string(&other).unwrap();
    assert_eq!(between(&other, "id=\"metrics\"", "</section>"), between(&page, "id=\"metrics\"", "</section>"));
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let out = place("r.html");
    ok(&["report", text(&made().run), "--no-evaluate", "--no-embedding", "--out", text(&out)]);
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(between(&page, "id=\"links\"", "</section>").contains("sccrossrec discover --run"));
    assert!(between(&page, "id=\"metrics\"", "</section>").contains("--no-evaluate"));
    assert!(between(&page, "id=\"training\"", "</section>").contains("<svg"));
    // A run whose data have gone.
    let run = place("run");
    std::fs::create_dir(&run).unwrap();
    for file in ["genes.txt", "peaks.txt", "log.jsonl"] {
        std::fs::copy(made().run.join(file), run.join(file)).unwrap();
    }
    let record = std::fs::read_to_string(made().run.join("run.json")).unwrap();
    let mut record: Value = serde_json::from_str(&record).unwrap();
    record["data"]["path"] = text(&place("gone")).into();
    std::fs::write(run.join("run.json"), record.to_string()).unwrap();
    ok(&["report", text(&run), "--out", text(&out), "--force"]);
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(between(&page, "id=\"metrics\"", "</section>").contains("is not there any more"));
    // With the data but without a checkpoint.
    ok(&["report", text(&run), "--data", text(&made().data), "--out", text(&out), "--force"]);
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(between(&page, "id=\"metrics\"", "</section>").contains("no checkpoint"));
    // A damaged log, a folder of neither kind, an existing file, a table cut short.
    std::fs::write(run.join("log.jsonl"), "{}\n").unwrap();
    assert!(refused(&["report", text(&run), "--out", text(&place("x.html"))]).contains("line 1 is no epoch"));
    assert!(refused(&["report", text(dir.path()), "--out", text(&place("x.html"))]).contains("neither a run nor"));
    assert!(refused(&["report", text(&made().run), "--out", text(&out)]).contains("--force"));
    let found = place("found");
    std::fs::create_dir(&found).unwrap();
    for file in ["discover.json", "genes.tsv"] {
        std::fs::copy(made().found.join(file), found.join(file)).unwrap();
    }
    let peaks = std::fs::read_to_string(made().found.join("peaks.tsv")).unwrap();
    let half = peaks[..peaks.len() / 2].rfind('\t').unwrap(); // a row without its last column
    std::fs::write(found.join("peaks.tsv"), &peaks[..half]).unwrap();
    let said = refused(&["report", text(&found), "--out", text(&place("x.html"))]);
    assert!(said.contains("peaks.tsv: line") && said.contains("run `discover` again"), "{said}");
    // A record that names a table elsewhere.
    let record = found.join("discover.json");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    for (of, file) in [("links", "links.tsv"), ("attention", "attention.h5")] {
        let mut json = json.clone();
        json[of]["file"] = text(&made().found.join(file)).into();
        std::fs::write(&record, json.to_string()).unwrap();
        let said = refused(&["report", text(&found), "--out", text(&place("x.html"))]);
        assert!(said.contains(&format!("{file}, which is not inside of its folder")), "{said}");
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    report(&out, &[]);
    // The console is heard at all.
    let broken = dir.path().join("broken.html");
    std::fs::write(&broken, "<!DOCTYPE html><script>nothing_of_this_name()</script>").unwrap();
    assert!(!browse(&browser, &["--dump-dom"], &broken, "").1.is_empty());

    let made = made();
    let plain = dom(&browser, &out, "");
    let rows = |page: &str, id: &str| between(page, &format!("id=\"{id}\""), "</table>").matches("<tr>").count();
    assert_eq!(rows(&plain, "links-table"), 51);
    assert!(rows(&plain, "top-genes") > 5 && rows(&plain, "top-peaks") > 5);
    assert!(!plain.contains("id=\"legend\"></div>"));

    // At first the links of all cells: the likeliest pair of their table is in the first row, with its probability for a
    // score.
    let links = std::fs::read_to_string(made.found.join("links.tsv")).unwrap();
    let first: Vec<&str> = links.lines().nth(1).unwrap().split('\t').collect();
    let column = |name: &str| links.lines().next().unwrap().split('\t').position(|c| c == name).unwrap();
    let table = between(&plain, "id=\"links-table\"", "</table>");
    let row = between(table, "<tbody>", "</tr>").to_string();
    assert!(row.contains(">all cells</td>") && row.contains(&format!("{}-{}", first[1], first[2])), "{row}, {first:?}");
    let shown: f64 = row.split("<td>").nth(3).unwrap().split('<').next().unwrap().parse().unwrap();
    assert!((shown - first[column("probability")].parse::<f64>().unwrap()).abs() < 1e-3, "{row}, {first:?}");

    // The filter finds a gene, and nothing else.
    let found = dom(&browser, &out, &format!("#filter={}", made.gene));
    let table = between(&found, "id=\"links-table\"", "</table>");
    let body = between(table, "<tbody>", "</tbody>");
    assert!(!body.is_empty());
    for row in body.split("<tr>").skip(1) {
        assert!(row.contains(&format!(">{}</button>", made.gene)), "{row}");
    }
    let count = between(&found, "id=\"links-count\"", "</span>");
    assert!(!count.contains(">0 of"), "{count}");

    // A gene's links as arcs and as rows.
    let gene = dom(&browser, &out, &format!("#gene={}", made.gene));
    assert!(gene.contains(&format!("id=\"gene-title\">{}<", made.gene)));
    let arcs = between(&gene, "id=\"gene-arcs\"", "</svg>");
    assert!(arcs.matches("class=\"arc\"").count() > 0 && arcs.contains("TSS"), "{arcs}");
    assert_eq!(rows(&gene, "gene-links") - 1, arcs.matches("class=\"arc\"").count());
    let unknown = dom(&browser, &out, "#gene=no-such-gene");
    assert!(between(&unknown, "id=\"gene-suggest\"", "</div>").contains("no gene with links"));

    // The hostile name is found, shown, and does nothing.
    let hostile = dom(&browser, &out, "#filter=onerror");
    let body = between(between(&hostile, "id=\"links-table\"", "</table>"), "<tbody>", "</tbody>").to_string();
    assert!(body.contains("&lt;/script&gt;&lt;img src=x onerror="), "{body}");
    let gene =
        dom(&browser, &out, "#gene=%3C%2Fscript%3E%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D%27owned%27%22%3E");
    assert!(gene.contains("id=\"gene-title\">&lt;/script&gt;&lt;img"));
    for page in [&hostile, &gene] {
        assert!(!page.contains("<img") && !page.contains("<b ") && !page.contains("<title>owned"));
    }

    // Something is to be seen, in light and in dark, on the screen of a laptop.
    let light = screenshot(&browser, &out, "", 1400, 900);
    assert_eq!((light.width(), light.height()), (1400, 900));
    assert!(colours(&light) > 40, "{}", colours(&light));
    let whole = screenshot(&browser, &out, "", 1400, 4000);
    assert!(colours(&whole) > 300, "{}", colours(&whole));
}

#[test]
fn a_page_without_discovery_works_in_a_browser() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    ok(&["report", text(&made().run), "--out", text(&out)]);
    let page = dom(&browser, &out, "");
    assert!(!page.contains("id=\"legend\"></div>") && !page.contains("id=\"links-table\""));
}

/// Every picture: its name and its flags.
fn pictures() -> Vec<(&'static str, Vec<String>)> {
    let m = made();
    let list = |flags: &[&str]| flags.iter().map(|f| f.to_string()).collect::<Vec<_>>();
    let (run, found, data) = (text(&m.run), text(&m.found), text(&m.data));
    vec![
        ("region", list(&["region", &m.gene, "--data", data, "--discovery", found])),
        ("dotplot", list(&["dotplot", "--data", data, "--genes", &m.gene])),
        ("curves", list(&["curves", "--run", run])),
        ("embedding", list(&["embedding", "--run", run])),
        ("heatmap", list(&["heatmap", "--discovery", found, "--cell", &m.cell])),
        ("chromosome", list(&["heatmap", "--discovery", found, "--cell", &m.cell, "--chrom", "1"])),
        ("arcs", list(&["arcs", "--discovery", found, "--gene", &m.gene])),
        ("attention", list(&["arcs", "--discovery", found, "--gene", &m.gene, "--attention"])),
        ("hostile", list(&["arcs", "--discovery", found, "--gene", HOSTILE, "--cell-type", HOSTILE_TYPE])),
        ("tracks", list(&["tracks", "--discovery", found])),
        ("tracks-attention", list(&["tracks", "--discovery", found, "--attention", "--cell-type", HOSTILE_TYPE])),
        ("places", list(&["tracks", "--discovery", found, "--chrom", "chr2", "--cell-type", HOSTILE_TYPE])),
    ]
}

/// Mean colours of squares of `side` pixels.
fn squares(p: &Pixmap, side: u32) -> Vec<[f64; 3]> {
    let (columns, rows) = (p.width() / side, p.height() / side);
    let mut out = vec![[0.0; 3]; (columns * rows) as usize];
    for y in 0..rows * side {
        for x in 0..columns * side {
            let (p, to) = (p.pixel(x, y).unwrap(), &mut out[(y / side * columns + x / side) as usize]);
            for (sum, c) in to.iter_mut().zip([p.red(), p.green(), p.blue()]) {
                *sum += f64::from(c) / f64::from(side * side);
            }
        }
    }
    out
}

#[test]
fn both_forms_of_a_picture_are_one_picture() {
    let dir = tempfile::tempdir().unwrap();
    let browser = browser();
    for (name, flags) in pictures() {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (png, svg) = (dir.path().join(format!("{name}.png")), dir.path().join(format!("{name}.svg")));
        let said = ok(&[&["plot"], &flags[..], &["--scale", "1", "--out", text(&png)]].concat());
        let p = Pixmap::load_png(&png).unwrap();
        assert_eq!((said["width"].as_f64(), said["height"].as_f64()), {
            (Some(f64::from(p.width())), Some(f64::from(p.height())))
        });
        assert!(p.width() >= 1200 && colours(&p) > 20, "{name}: {} colours", colours(&p));
        ok(&[&["plot"], &flags[..], &["--out", text(&svg)]].concat());
        let markup = std::fs::read_to_string(&svg).unwrap();
        assert!(markup.starts_with("<svg xmlns=") && !markup.contains("<img") && !markup.contains("<b "), "{name}");
        let Some(browser) = &browser else { continue };
        let drawn = screenshot(browser, &svg, "", p.width(), p.height());
        let differences: Vec<f64> = squares(&drawn, 20)
            .iter()
            .zip(squares(&p, 20))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 3.0)
            .collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        // Letters differ: the browser's are those of the machine.
        assert!(mean < 3.0, "{name}: {mean:.2} of 255");
    }
}

#[test]
fn names_that_are_not_there() {
    let m = made();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p.png");
    let plot = |flags: &[&str]| refused(&[&["plot"], flags, &["--out", text(&out)]].concat());
    let (run, found) = (text(&m.run), text(&m.found));
    let upper = m.gene.to_uppercase();
    let said = plot(&["arcs", "--discovery", found, "--gene", &format!("{upper}x")]);
    assert!(said.contains(&format!("did you mean {}", m.gene)) || said.contains(&m.gene), "{said}");
    let said = plot(&["heatmap", "--discovery", found, "--cell", &format!("{}0", m.cell)]);
    assert!(said.contains("did you mean") && said.contains(&m.cell), "{said}");
    let said = plot(&["arcs", "--discovery", found, "--gene", &m.gene, "--cell-type", "typ2"]);
    assert!(said.contains("type2"), "{said}");
    let said = plot(&["tracks", "--discovery", found, "--chrom", "chr77"]);
    assert!(said.contains("no such chromosome") && said.contains("chr1"), "{said}");
    assert!(plot(&["tracks", "--discovery", run]).contains("is not a discovery"));
    assert!(plot(&["curves", "--run", found]).contains("is not a run"));
    let said = refused(&["plot", "curves", "--run", run, "--out", text(&dir.path().join("p.jpg"))]);
    assert!(said.contains(".png or .svg"), "{said}");
    assert!(!out.exists());
}
