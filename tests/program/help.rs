//! What the program says of itself: help, completions, manual pages, closing lines.

use std::path::Path;
use std::process::Command;

use crate::common::program::{files, program, run, text};
use crate::common::tiny::{self, Order};

fn said(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// Every verb, and the verbs of verbs, as the page of the command line has them.
fn verbs() -> Vec<Vec<String>> {
    let page = sccrossrec::cli::reference();
    let titles = page.lines().filter_map(|l| l.strip_prefix("## `")?.strip_suffix('`'));
    titles.map(|t| t.split(' ').map(String::from).collect()).collect()
}

fn help(dir: &Path, verb: &[String], flag: &str) -> String {
    let args: Vec<&str> = verb.iter().map(String::as_str).chain([flag]).collect();
    said(dir, &args)
}

/// Headings of a page, in their order.
fn headings(page: &str) -> Vec<&str> {
    let title = |l: &&str| !l.starts_with(' ') && l.ends_with(':') && !l.contains(' ');
    page.lines().filter(title).map(|l| l.trim_end_matches(':')).collect()
}

#[test]
fn flags_are_under_headings_and_common_ones_last() {
    let dir = tempfile::tempdir().unwrap();
    let all = verbs();
    assert!(all.len() > 25, "{all:?}");
    for verb in &all {
        let (short, long) = (help(dir.path(), verb, "-h"), help(dir.path(), verb, "--help"));
        assert!(short.lines().count() <= long.lines().count(), "{verb:?}");
        for page in [&short, &long] {
            assert!(page.lines().all(|l| l.chars().count() <= 110), "{verb:?}: {page}");
            assert!(page.contains("Usage: sccrossrec"), "{page}");
            // `Flags` is where what has no place of its own goes; `clap` calls it `Options`.
            let of = headings(page);
            assert!(
                !of.contains(&"Flags") && !of.contains(&"Options"),
                "{verb:?} has a flag without a heading: {page}"
            );
            let flags: Vec<_> = of.iter().filter(|h| !["Examples", "Verbs"].contains(h)).collect();
            assert_eq!(flags.last(), Some(&&"Common"), "{verb:?}: {page}");
            assert_eq!(flags.iter().filter(|h| ***h == "Common").count(), 1, "{verb:?}: {page}");
            assert!(page.contains("xample") || page.contains("Verbs:"), "{verb:?} has no example");
            for common in ["--threads", "--seed", "--json", "--quiet"] {
                let (at, begin) = (page.find(common).unwrap_or(usize::MAX), page.find("\nCommon:").unwrap());
                assert!(at > begin, "{verb:?}: {common} is not where common flags are");
            }
        }
        for flag in ["--threads", "--seed", "--config", "--memory-limit", "--io", "--quiet", "--json"] {
            assert!(long.contains(flag), "{verb:?}: no {flag}");
        }
    }
}

/// In the short page a flag is one line.
#[test]
fn the_short_page_is_short() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["prepare", "train", "evaluate", "discover"] {
        let page = said(dir.path(), &[verb, "-h"]);
        assert!(page.lines().count() < 50, "{verb}: {page}");
        let all = said(dir.path(), &[verb, "--help"]);
        assert!(all.lines().count() > page.lines().count() + 10 || verb == "evaluate", "{verb}");
        assert!(page.contains(&format!("sccrossrec {verb} --help")), "{page}");
    }
    let train = said(dir.path(), &["train", "--help"]);
    for part in ["[default: by recipe: ", "[default: 64]", "--pairs <NAME>", "Towers:", "Optimiser:", "Losses:"] {
        assert!(train.contains(part), "no {part:?} in {train}");
    }
    let main = said(dir.path(), &["--help"]);
    assert!(main.contains("sccrossrec demo --out demo"), "{main}");
    let at = |word: &str| main.find(&format!("\n  {word} ")).unwrap_or_else(|| panic!("no {word} in {main}"));
    let walk = ["inspect", "prepare", "check", "train", "evaluate", "discover", "doctor"];
    let places: Vec<usize> = walk[..6].iter().map(|w| at(w)).collect();
    assert!(places.is_sorted() && at("doctor") < main.len(), "{main}");
    assert!(!main.contains("\n  samples "), "{main}");
}

#[test]
fn examples_are_read() {
    let page = sccrossrec::cli::reference();
    let mut seen = 0;
    for line in page.lines().filter(|l| l.starts_with("sccrossrec ")) {
        let typed = line.split(" > ").next().unwrap();
        let words: Vec<&str> = typed.split_whitespace().collect();
        let read = sccrossrec::cli::reads(&words);
        assert!(read.is_ok(), "{line}: {read:?}");
        seen += 1;
    }
    assert!(seen > 40, "{seen} examples");
    assert!(sccrossrec::cli::reads(&["sccrossrec", "train", "--nonsense"]).is_err());
}

#[test]
fn colours_come_where_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let with = |set: &[(&str, &str)], args: &[&str]| {
        let mut command = program();
        command.current_dir(dir.path()).args(args).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command.envs(set.iter().copied());
        let out = command.output().unwrap();
        (String::from_utf8_lossy(&out.stdout).into_owned(), text(&out))
    };
    assert!(!with(&[], &["train", "-h"]).0.contains('\x1b'));
    let forced = with(&[("CLICOLOR_FORCE", "1")], &["train", "-h"]).0;
    assert!(forced.contains("\x1b[1;36mInput:"), "{forced}");
    assert!(!with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &["train", "-h"]).0.contains('\x1b'));
    assert!(with(&[("CLICOLOR_FORCE", "1")], &["inspect", "nowhere"]).1.starts_with("\x1b[1;31merror:\x1b[0m nowhere"));
    assert!(with(&[], &["inspect", "nowhere"]).1.starts_with("error: nowhere"));
}

#[test]
fn shells_and_man_take_what_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(d, &["completions", shell]);
        assert!(script.contains("prepare") && script.contains("epochs"), "{shell}: {script}");
        std::fs::write(d.join(shell), script).unwrap();
    }
    let bash = Command::new("bash").arg("-n").arg(d.join("bash")).output().unwrap();
    assert!(bash.status.success(), "{}", text(&bash));
    said(d, &["man", "--out", "man"]);
    for verb in verbs().iter().filter(|v| !v.is_empty()) {
        let path = d.join(format!("man/sccrossrec-{}.1", verb.join("-")));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            page.contains(".TH") && page.contains(".SH COMMON") && page.contains("read: mapped into memory"),
            "{}: {page}",
            path.display()
        );
        // Where there is groff it finds no fault.
        if let Ok(out) = Command::new("groff").args(["-Kutf8", "-man", "-Tutf8", "-z", "-ww"]).arg(&path).output() {
            assert!(out.status.success() && out.stderr.is_empty(), "{}: {}", path.display(), text(&out));
        }
    }
    let main = said(d, &["man"]);
    assert!(main.contains(".TH sccrossrec 1") && main.contains("prepare"), "{main}");
    assert_eq!(main, std::fs::read_to_string(d.join("man/sccrossrec.1")).unwrap());
}

/// What a donor gives is a sample, and what training draws is a pair; names of before are taken.
#[test]
fn pairs_were_called_samples() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let made = said(d, &["pairs", "--data", "data", "--name", "new", "--split", "pair"]);
    let before = said(d, &["samples", "--data", "data", "--name", "old", "--split", "sample"]);
    assert_eq!(made.replace("new", "old"), before);
    assert!(made.starts_with("part") && made.contains("pairs") && !made.contains(" samples"), "{made}");
    let all = files(&d.join("data/samples"));
    assert_eq!(all[Path::new("new")], all[Path::new("old")]);
    let base = ["train", "--data", "data", "--epochs", "1", "--tower-epochs", "1", "--hidden", "16", "--quiet"];
    said(d, &[&base[..], &["--out", "a", "--pairs", "new"]].concat());
    said(d, &[&base[..], &["--out", "b", "--samples", "new"]].concat());
    let run = |name: &str| std::fs::read(d.join(name).join("run.json")).unwrap();
    assert_eq!(run("a"), run("b"));
    assert_eq!(
        said(d, &["evaluate", "--run", "a", "--pairs", "new", "--no-baselines"]),
        said(d, &["evaluate", "--run", "a", "--samples", "new", "--no-baselines"])
    );
    // Files of flags say either.
    std::fs::write(d.join("c.toml"), "[samples]\ndata = \"data\"\nname = \"more\"\n[train]\nsamples = \"new\"\n")
        .unwrap();
    said(d, &["samples", "--config", "c.toml"]);
    said(d, &["pairs", "--config", "c.toml", "--name", "other"]);
    said(d, &[&base[..], &["--out", "c", "--config", "c.toml"]].concat());
    assert_eq!(run("a"), run("c"));
    let inspected = said(d, &["inspect", "data"]);
    assert!(inspected.contains("pairs new") && inspected.contains("by pair"), "{inspected}");
    for verb in ["prepare", "train", "evaluate", "pairs"] {
        let page = said(d, &[verb, "--help"]).replace("sample#", "");
        let told = page.lines().find(|l| l.contains("sample"));
        assert_eq!(told, None, "{verb}");
    }
}

/// The last line says how to go on, with paths as a shell takes them; programs are not told.
#[test]
fn verbs_say_what_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let last = |args: &[&str]| {
        let out = run(d, args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        text(&out).lines().last().unwrap_or_default().to_string()
    };
    let small = ["--cells", "120", "--genes", "30", "--peaks", "80"];
    let next = last(&[&["simulate", "--out", "my files"][..], &small].concat());
    let want =
        "next: sccrossrec prepare --rna 'my files/rna.h5ad' --atac 'my files/atac.h5ad' --gtf 'my files/genes.gtf'";
    assert!(next.starts_with(want), "{next}");
    let files = ["prepare", "--rna", "my files/rna.h5ad", "--atac", "my files/atac.h5ad"];
    let next = last(&[&files[..], &["--out", "my data"]].concat());
    assert!(next.contains("next: sccrossrec check 'my data'") && next.contains("train --data 'my data'"), "{next}");
    for silent in ["--json", "--quiet"] {
        let out = run(d, &[&files[..], &["--out", "other", "--force", silent]].concat());
        assert!(!text(&out).contains("next:") && !String::from_utf8_lossy(&out.stdout).contains("next:"), "{silent}");
    }
    let next =
        last(&["train", "--data", "my data", "--out", "run", "--epochs", "1", "--tower-epochs", "1", "--hidden", "16"]);
    assert_eq!(next, "next: sccrossrec evaluate --run run");
    assert_eq!(last(&["evaluate", "--run", "run"]), "next: sccrossrec discover --run run --out found");
    assert_eq!(last(&["inspect", "run"]), "next: sccrossrec evaluate --run run");
    assert_eq!(
        last(&["discover", "--data", "my data", "--out", "links"]),
        "next: sccrossrec report links --out report.html"
    );
}

/// Seeds apart, all else the same: the table of their spread, and each run as if trained alone.
#[test]
fn repeats_tell_the_spread() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    let base = ["train", "--data", "data", "--epochs", "1", "--tower-epochs", "1", "--hidden", "16"];
    let json = said(d, &[&base[..], &["--repeats", "2", "--seed", "7", "--out", "runs", "--json", "--quiet"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["seeds"], serde_json::json!([7, 8]));
    let f = &json["scores"]["FOSCTTM"];
    let all: Vec<f64> = f["all"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let (mean, half) = ((all[0] + all[1]) / 2.0, (all[0] - all[1]).abs() / 2.0);
    assert!((f["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((f["sd"].as_f64().unwrap() - half * 2f64.sqrt()).abs() < 1e-12);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("runs/repeats.json")).unwrap()).unwrap();
    assert_eq!(kept, json);
    said(d, &[&base[..], &["--seed", "8", "--out", "alone", "--quiet"]].concat());
    let best = |run: &str| std::fs::read(d.join(run).join("checkpoints/best.safetensors")).unwrap();
    assert!(best("alone") == best("runs/seed-8") && best("alone") != best("runs/seed-7"));
    let again = run(d, &[&base[..], &["--repeats", "2", "--out", "runs"]].concat());
    crate::common::program::refused(&again, &["runs", "--force"]);
    crate::common::program::refused(
        &run(d, &["train", "--resume", "--repeats", "2", "--out", "alone"]),
        &["--repeats"],
    );
}

/// A table is compressed where its name says so.
#[test]
fn partners_are_compressed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    tiny::prepared(d, "data", Order::Plain);
    said(
        d,
        &[
            "train",
            "--data",
            "data",
            "--epochs",
            "1",
            "--tower-epochs",
            "1",
            "--hidden",
            "16",
            "--out",
            "run",
            "--quiet",
        ],
    );
    for out in ["m.tsv", "m.tsv.gz"] {
        said(d, &["match", "--run", "run", "--rna", "data", "--atac", "data", "--out", out, "--quiet"]);
    }
    assert_eq!(std::fs::read(d.join("m.tsv.gz")).unwrap()[..2], [0x1f, 0x8b]);
    let mut plain = String::new();
    let packed = std::fs::File::open(d.join("m.tsv.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut plain).unwrap();
    assert_eq!(plain, std::fs::read_to_string(d.join("m.tsv")).unwrap());
}
