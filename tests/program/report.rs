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
    // The one address is that of a browser of genomes, which opens where the reader clicks: no element of the page has it.
    assert_eq!(page.matches("genome.ucsc.edu").count(), 1);
    let bare = page.replace("http://www.w3.org/2000/svg", "").replace("https://genome.ucsc.edu/cgi-bin/hgTracks", "");
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
    let rows = |page: &str, id: &str| between(page, &format!("id=\"{id}\""), "</table>").matches("<tr").count();
    assert_eq!(rows(&plain, "links-table"), 51);
    assert!(rows(&plain, "top-genes") > 5 && rows(&plain, "top-peaks") > 5);
    assert!(!plain.contains("id=\"legend\"></div>"));

    // At first the likeliest pair of the table of all cells is in the first row, with its probability.
    let links = std::fs::read_to_string(made.found.join("links.tsv")).unwrap();
    let first: Vec<&str> = links.lines().nth(1).unwrap().split('\t').collect();
    let column = |name: &str| links.lines().next().unwrap().split('\t').position(|c| c == name).unwrap();
    let table = between(&plain, "id=\"links-table\"", "</table>");
    let row = between(table, "<tbody>", "</tr>").to_string();
    assert!(row.contains(&format!("{}-{}", first[1], first[2])), "{row}, {first:?}");
    let shown: f64 = row.split("<td>").nth(1).unwrap().split('<').next().unwrap().parse().unwrap();
    assert!((shown - first[column("probability")].parse::<f64>().unwrap()).abs() < 1e-3, "{row}, {first:?}");

    // The filter finds a gene, and nothing else.
    let found = dom(&browser, &out, &format!("#filter={}", made.gene));
    let table = between(&found, "id=\"links-table\"", "</table>");
    let body = between(table, "<tbody>", "</tbody>");
    assert!(!body.is_empty());
    for row in body.split("<tr").skip(1) {
        assert!(row.contains(&format!(">{}</button>", made.gene)), "{row}");
    }
    let count = between(&found, "id=\"links-count\"", "</span>");
    assert!(!count.contains("none of"), "{count}");

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

/// What a script finds on the page after it has been drawn: its value, as text. It runs as one of the page's own.
fn probe(browser: &Path, page: &Path, flags: &[&str], fragment: &str, script: &str) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    let nonce = between(&text, "script-src 'nonce-", "'").to_string();
    let end = text.rfind("</body>").unwrap();
    let probe = format!(
        "<script nonce=\"{nonce}\">{{ const p = document.createElement('pre'); p.hidden = true; p.id = 'probe'; \
         p.textContent = String((() => {{ {script} }})()); document.body.appendChild(p); \
         if (parent !== self) parent.postMessage(p.textContent, '*'); }}</script>"
    );
    let copy = page.with_file_name("probed.html");
    std::fs::write(&copy, format!("{}{probe}{}", &text[..end], &text[end..])).unwrap();
    let (dom, console) = browse(browser, &[&["--dump-dom"], flags].concat(), &copy, fragment);
    assert!(console.is_empty(), "{console:#?}");
    let found = between(&dom, "id=\"probe\"", "</pre>").split_once('>').unwrap().1.to_string();
    found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The lights of a page: level and what they are of.
fn lights(page: &str) -> Vec<(String, String)> {
    let list = between(page, "<ul class=\"lights\">", "</section>").to_string();
    let one = |li: &str| (li.split('"').next().unwrap().to_string(), between(li, "<b>", "</b>").to_string());
    list.split("<li class=\"").skip(1).map(one).collect()
}

#[test]
fn the_page_begins_with_what_was_found_and_how_far_to_trust_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    let page = report(&out, &[]);
    let first = between(&page, "<main>\n<section id=\"", "\"");
    assert_eq!(first, "summary");
    // The order of sections.
    let order = ["summary", "links", "gene", "cells", "translation", "training", "run", "methods"];
    let places: Vec<usize> = order.iter().map(|id| page.find(&format!("<section id=\"{id}\">")).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    let summary = between(&page, "<section id=\"summary\">", "</section>");
    let record: Value =
        serde_json::from_str(&std::fs::read_to_string(made().found.join("discover.json")).unwrap()).unwrap();
    let links = format!("<b>{} links</b> between a gene and a peak at q", record["links"]["selected"]);
    for words in
        ["<b>160 cells</b> (3 cell types) with <b>40 genes</b> and <b>150 peaks</b>", &links, "Partners:", "Labels:"]
    {
        assert!(summary.contains(words), "{words}: {summary}");
    }
    assert!(summary.contains("Expression told from ATAC correlates"), "{summary}");
    // Few cells, shallow, no replicates: each in colour and in words, with what helps.
    let found = lights(&page);
    let level =
        |what: &str| found.iter().find(|l| l.1 == what).unwrap_or_else(|| panic!("{what}: {found:?}")).0.as_str();
    assert_eq!((level("cells"), level("split"), level("Replicates")), ("look", "look", "look"));
    assert!(summary.contains("doubtful</span> <b>cells</b>: 160: a model learns little"), "{summary}");
    assert!(summary.contains("discover --replicates COLUMN"));
    assert!(!matches!(level("Model beside simple methods"), "unknown"));
    // Worst first.
    let rank = |l: &str| ["doubt", "look", "unknown", "good"].iter().position(|x| *x == l).unwrap();
    assert!(found.iter().map(|l| rank(&l.0)).is_sorted(), "{found:?}");
    // Methods hold the numbers of this run, commands can be pasted.
    let methods = between(&page, "<section id=\"methods\">", "</section>");
    assert!(methods.contains("profiles of 160 cells") && methods.contains("McInnes"), "{methods}");
    for verb in ["prepare --rna", "train --data", "discover --run", "report "] {
        assert!(methods.contains(&format!("sccrossrec {verb}")), "{verb}: {methods}");
    }
    // Without a discovery, that is not known.
    let bare = dir.path().join("b.html");
    ok(&["report", text(&made().run), "--no-embedding", "--no-evaluate", "--out", text(&bare)]);
    let found = lights(&std::fs::read_to_string(&bare).unwrap());
    assert!(found.contains(&("unknown".into(), "Links".into())), "{found:?}");
}

/// Many cells of good depth in two batches: links alone, without a model.
#[test]
fn good_data_have_good_lights() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let sizes = ["--cells", "2100", "--genes", "60", "--peaks", "240", "--cell-types", "4", "--chromosomes", "3"];
    ok(&[&["simulate", "--out", text(dir.path())], &sizes[..]].concat());
    let simulated = |name: &str| place(name);
    // Which donor each cell is of.
    let file = hdf5::File::open(simulated("rna.h5ad")).unwrap();
    let obs = file.group("obs").unwrap();
    let index: String = obs.attr("_index").unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string();
    let names: Vec<hdf5::types::VarLenUnicode> = obs.dataset(&index).unwrap().read_raw().unwrap();
    let rows = names.iter().enumerate().map(|(i, n)| format!("{n},d{}\n", i % 3));
    std::fs::write(place("donors.csv"), format!("cell,donor\n{}", rows.collect::<String>())).unwrap();
    let (rna, atac) = (simulated("rna.h5ad"), simulated("atac.h5ad"));
    let files = ["--rna", text(&rna), "--atac", text(&atac)];
    let (data, found, out) = (place("data"), place("found"), place("r.html"));
    let donors = place("donors.csv");
    ok(&[&["prepare"], &files[..], &["--obs", text(&donors), "--out", text(&data)]].concat());
    ok(&["discover", "--data", text(&data), "--out", text(&found)]);
    ok(&["report", text(&found), "--data", text(&data), "--genome", "hg19", "--out", text(&out)]);
    let page = std::fs::read_to_string(&out).unwrap();
    let lights = lights(&page);
    for what in ["cells", "donors or batches", "Replicates", "Links hold in other cells", "Links stand out"] {
        assert!(lights.contains(&("good".into(), what.into())), "{what}: {lights:?}");
    }
    assert!(between(&page, "<section id=\"summary\">", "</section>").contains("3 replicates (column donor)"));
    assert!(page.contains(r#""genome":{"guess":false,"name":"hg19"}"#));
    assert!(refused(&["report", text(&found), "--genome", "a b", "--out", "x.html"]).contains("as UCSC names it"));
    assert!(page.len() < 1_000_000, "{}", page.len());
    let Some(browser) = browser() else { return };
    // A link to the browser of genomes holds peak and transcription start.
    let href = probe(&browser, &out, &[], "", "return document.querySelector('#links-table a').href;");
    assert!(href.starts_with("https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg19&position=chr"), "{href}");
    assert!(
        probe(&browser, &out, &[], "", "return document.querySelector('#links-table a').rel;").contains("noopener")
    );
}

#[test]
fn links_are_filtered_sorted_and_written_as_csv() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    report(&out, &["--links", "20000"]);
    let table = std::fs::read_to_string(made().found.join("links.tsv")).unwrap();
    let head: Vec<&str> = table.lines().next().unwrap().split('\t').collect();
    let at = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let number = |row: &[&str], name: &str| row[at(name)].parse::<f64>().unwrap_or(f64::NAN);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|l| l.split('\t').collect()).collect();
    let all = probe(&browser, &out, &[], "", "sccrossrec.clear(); return sccrossrec.csv();");
    let cells =
        |csv: &str| csv.trim().lines().map(|l| l.split(',').map(String::from).collect::<Vec<_>>()).collect::<Vec<_>>();
    let csv = cells(&all);
    assert_eq!(csv[0][..9].join(","), "gene,chrom,tss,peak,start,end,probability,q,effect");
    assert!(csv.len() > 60, "{}", csv.len());
    // The best row, number by number; the name of its gene may hold a comma.
    let (got, want) = (csv[1].iter().rev().collect::<Vec<_>>(), &rows[0]);
    let names = [
        "",
        "replicates_agree",
        "replicates",
        "n_cells",
        "distance",
        "effect",
        "qvalue",
        "probability",
        "end",
        "start",
    ];
    for (k, name) in names.iter().enumerate().skip(1) {
        let (got, want): (f64, f64) = (got[k].parse().unwrap(), number(want, name).abs());
        assert!(
            (got.abs() - want).abs() <= 1e-4 * want.max(1e-3) + if k == 4 { 1.0 } else { 0.0 },
            "{name}: {got} {want}"
        );
    }
    // Each filter leaves what it says, as the table of the discovery has it.
    let kept = |script: &str| {
        let set = format!("sccrossrec.clear(); {script} sccrossrec.select(); return sccrossrec.csv();");
        cells(&probe(&browser, &out, &[], "", &set)).len() - 1
    };
    let filters: [(&str, &str, f64, bool); 5] = [
        ("links-q", "qvalue", 0.5, true),
        ("links-probability", "probability", 0.4, false),
        ("links-effect", "effect", 0.05, false),
        ("links-distance", "distance", 100.0, true),
        ("links-cells", "n_cells", 20.0, false),
    ];
    let total = csv.len() - 1;
    for (id, name, bound, most) in filters {
        let got = kept(&format!("document.getElementById('{id}').value = '{bound}';"));
        let limit = if name == "distance" { 1000.0 * bound } else { bound };
        let holds = |r: &&Vec<&str>| if most { number(r, name).abs() <= limit } else { number(r, name) >= limit };
        // All pairs of so small a data set are on the page.
        assert_eq!((got, total), (rows.iter().filter(holds).count(), rows.len()), "{name}");
        assert!(got < total, "{name} leaves all");
    }
    let of_types = [0, 1, 2].map(|t| kept(&format!("document.getElementById('links-map').value = '{t}';")));
    assert!(of_types.iter().any(|&n| n > 0) && of_types.iter().all(|&n| n < total), "{of_types:?} {total}");
    // Sorting by a head that is a button: focus stays on it, and the order turns.
    let script = "const b = () => document.querySelector('#links-table [data-sort=distance]'); b().focus(); b().click(); \
                  const up = sccrossrec.csv().split('\\n')[1]; b().click(); \
                  return [document.activeElement === b(), b().closest('th').getAttribute('aria-sort'), up !== sccrossrec.csv().split('\\n')[1]];";
    assert_eq!(probe(&browser, &out, &[], "", script), "true,descending,true");
}

#[test]
fn cells_lie_in_the_plane_in_colours() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    let page = report(&out, &[]);
    assert!(page.contains("Joint embedding of RNA and ATAC by UMAP"));
    // Colours of the canvas that many points have, for types, for a gene, and what the legend says.
    let script = "const c = document.getElementById('plane'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, s = {}; \
                  for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 190) { const k = [d[i], d[i + 1], d[i + 2]].join(); s[k] = (s[k] || 0) + 1; } \
                  return Object.values(s).filter((n) => n > 60).length + '|' + document.getElementById('legend').textContent;";
    let (types, legend) = {
        let found = probe(&browser, &out, &[], "", script);
        let (n, legend) = found.split_once('|').unwrap();
        (n.parse::<usize>().unwrap(), legend.to_string())
    };
    assert!(types >= 3 && legend.contains("type"), "{types} {legend}");
    let genes = probe(
        &browser,
        &out,
        &[],
        "",
        "return [...document.querySelectorAll('#plane-colour optgroup[label=genes] option')].map((o) => o.textContent).join('|');",
    );
    assert!(genes.split('|').count() >= 10, "{genes}");
    let gene = genes.split('|').find(|g| !g.contains('<')).unwrap();
    let of_gene = probe(&browser, &out, &[], &format!("#colour={gene}"), script);
    assert!(of_gene.contains("expression as stored") && of_gene.contains("of 160 cells"), "{of_gene}");
}

/// Whether the text of the page can be read: contrast of every text against what is behind it, as WCAG has it.
const CONTRAST: &str = r"
    const rgb = (t) => { const m = t.match(/[\d.]+/g).map(Number); return [m[0], m[1], m[2], m.length > 3 ? m[3] : 1]; };
    const light = (c) => { const [r, g, b] = c.map((x) => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0.5) return c; }
      return [255, 255, 255, 1]; };
    const bad = new Set();
    let seen = 0;
    for (const e of document.querySelectorAll('body *')) {
      if (e instanceof SVGElement || !e.offsetParent || e.disabled || ![...e.childNodes].some((t) => t.nodeType === 3 && t.data.trim())) continue;
      const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e).slice(0, 3));
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      seen++;
      if (ratio < 4.5) bad.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
    }
    return [matchMedia('(prefers-color-scheme: dark)').matches, seen > 100, ...bad].join(' ');
";

#[test]
fn the_page_fits_every_width_and_both_lights() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r.html");
    report(&out, &[]);
    for width in [400, 800, 1400] {
        let script = "const r = document.documentElement; \
                      const wide = [...document.querySelectorAll('main > section')].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.id); \
                      return [innerWidth, r.scrollWidth <= r.clientWidth, ...wide].join(' ');";
        // A frame of that width, which tells what it found: a window has a least one.
        probe(&browser, &out, &[], "", script);
        let around = dir.path().join("around.html");
        let html = format!(
            "<!DOCTYPE html><iframe style=\"width:{width}px;height:900px;border:0\" src=\"probed.html\"></iframe><pre id=\"probe\"></pre>\
             <script>addEventListener('message', (e) => {{ document.getElementById('probe').textContent = e.data; }});</script>"
        );
        std::fs::write(&around, html).unwrap();
        let (dom, _) = browse(&browser, &["--dump-dom", "--window-size=1600,1000"], &around, "");
        assert_eq!(between(&dom, "<pre id=\"probe\">", "</pre>"), format!("{width} true"));
    }
    assert_eq!(probe(&browser, &out, &[], "", CONTRAST), "false true");
    assert_eq!(probe(&browser, &out, &["--blink-settings=preferredColorScheme=0"], "", CONTRAST), "true true");
}

/// Text of a PDF whose fonts say what their letters are: every string that is shown, decoded by each map of letters.
fn pdf_text(bytes: &[u8]) -> String {
    use std::io::Read;
    let find = |from: usize, what: &[u8]| bytes[from..].windows(what.len()).position(|w| w == what).map(|i| from + i);
    let (mut at, mut streams) = (0, Vec::new());
    while let Some(start) = find(at, b"stream") {
        let begin = start + 6 + bytes[start + 6..].iter().take(2).take_while(|b| b"\r\n".contains(b)).count();
        let Some(end) = find(begin, b"endstream") else { break };
        let mut text = Vec::new();
        if flate2::read::ZlibDecoder::new(&bytes[begin..end]).read_to_end(&mut text).is_ok() {
            streams.push(String::from_utf8_lossy(&text).into_owned());
        }
        at = end + 9;
    }
    let hex = |t: &str| u32::from_str_radix(t.trim_matches(['<', '>']), 16).unwrap_or(0);
    let maps: Vec<std::collections::HashMap<u32, String>> = (streams.iter())
        .filter(|s| s.contains("beginbfchar") || s.contains("beginbfrange"))
        .map(|s| {
            let mut map = std::collections::HashMap::new();
            for line in s.lines() {
                let f: Vec<&str> = line.split_whitespace().collect();
                let letter = |n: u32| char::from_u32(n).map(String::from).unwrap_or_default();
                match f[..] {
                    [a, b] if a.starts_with('<') => drop(map.insert(hex(a), letter(hex(b)))),
                    [a, b, c] if a.starts_with('<') && c.starts_with('<') => {
                        (hex(a)..=hex(b)).for_each(|n| drop(map.insert(n, letter(hex(c) + n - hex(a)))));
                    }
                    _ => {}
                }
            }
            map
        })
        .collect();
    let mut out = String::new();
    for map in &maps {
        for s in streams.iter().filter(|s| s.contains(" Tf")) {
            for shown in s.split('<').skip(1).map(|t| t.split('>').next().unwrap()) {
                if shown.len() % 4 == 0 && shown.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let codes = (0..shown.len()).step_by(4).map(|i| hex(&shown[i..i + 4]));
                    codes.for_each(|c| out += map.get(&c).map_or("", String::as_str));
                }
            }
        }
    }
    out
}

#[test]
fn the_page_prints() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (out, pdf) = (dir.path().join("r.html"), dir.path().join("r.pdf"));
    report(&out, &[]);
    browse(&browser, &[&format!("--print-to-pdf={}", pdf.display()), "--no-pdf-header-footer"], &out, "");
    let bytes = std::fs::read(&pdf).unwrap();
    assert!(bytes.starts_with(b"%PDF") && bytes.len() > 20_000);
    let words: String = pdf_text(&bytes).split_whitespace().collect();
    for part in ["Howfartotrustit", "Whatwasfound", "modellearnslittle", "Methods,topaste"] {
        assert!(words.contains(part), "{part}: {}", &words[..words.len().min(3000)]);
    }
    // What is for the screen alone stays there.
    assert!(!words.contains("downloadasCSV") && !words.contains("clearfilters"));
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
        ("umap", list(&["umap", "--run", run])),
        ("umap-gene", list(&["umap", "--run", run, "--colour", &m.gene])),
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
    let said = plot(&["umap", "--run", run, "--colour", &format!("{}x", m.gene)]);
    assert!(said.contains("no such column of cells or gene") && said.contains(&m.gene), "{said}");
    let said = plot(&["tracks", "--discovery", found, "--chrom", "chr77"]);
    assert!(said.contains("no such chromosome") && said.contains("chr1"), "{said}");
    assert!(plot(&["tracks", "--discovery", run]).contains("is not a discovery"));
    assert!(plot(&["curves", "--run", found]).contains("is not a run"));
    let said = refused(&["plot", "curves", "--run", run, "--out", text(&dir.path().join("p.jpg"))]);
    assert!(said.contains(".png or .svg"), "{said}");
    assert!(!out.exists());
}
