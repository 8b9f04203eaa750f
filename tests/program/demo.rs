//! The demo end to end through the program, on a tiny configuration, and what its files say of each other.

use std::collections::HashMap;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use hdf5::types::VarLenUnicode;
use serde_json::Value;

fn sccrossrec(args: &[&str]) -> Output {
    Command::cargo_bin("sccrossrec").unwrap().args(args).output().unwrap()
}

fn ok(args: &[&str]) -> Value {
    let out = sccrossrec(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document on stdout")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const TINY: [&str; 14] = [
    "--cells",
    "160",
    "--genes",
    "40",
    "--peaks",
    "150",
    "--chromosomes",
    "3",
    "--cell-types",
    "3",
    "--epochs",
    "4",
    "--threads",
    "2",
];

fn demo(out: &Path) -> Value {
    let mut args = vec!["demo", "--json", "--out", text(out)];
    args.extend(TINY);
    ok(&args)
}

/// Rows of a table of attention: (gene, peak) → (weight, cells), checked for order.
fn attended(path: &Path) -> HashMap<(String, String), (f64, u64)> {
    let table = std::fs::read_to_string(path).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some(sccrossrec::discover::maps::LINK_COLUMNS.join("\t").as_str()), "{}", path.display());
    let mut last = f64::INFINITY;
    let mut out = HashMap::new();
    for line in lines {
        let f: Vec<&str> = line.split('\t').collect();
        let weight: f64 = f[6].parse().unwrap();
        assert!(weight <= last, "sorted by falling weight");
        last = weight;
        assert_eq!(f[13], format!("{}-{}-{}", f[0], f[1], f[2]));
        let middle = f[1].parse::<f64>().unwrap() / 2.0 + f[2].parse::<f64>().unwrap() / 2.0;
        let distance = (f[4].parse::<f64>().unwrap() - middle).abs();
        assert!((distance - f[5].parse::<f64>().unwrap()).abs() <= 0.5);
        let old = out.insert((f[3].to_string(), f[13].to_string()), (weight, f[10].parse().unwrap()));
        assert!(old.is_none(), "one row a link");
    }
    out
}

#[test]
fn end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let d = demo(&out);

    // What is reported.
    assert_eq!(d["data"]["cells"], 160);
    for stage in ["simulate", "prepare", "train", "evaluate", "discover"] {
        assert!(d["seconds"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert!(d["evaluation"]["matching"]["model"]["auroc"].is_f64());
    assert_eq!(d["evaluation"]["matching"]["majority"]["auroc"], 0.5);
    for baseline in ["all_zeros", "gene_mean", "gene_majority"] {
        assert!(d["evaluation"]["translation"][baseline]["rmse"].is_f64(), "{baseline}");
    }
    assert!(d["evaluation"]["translation"]["all_zeros"]["precision"].is_null(), "undefined is null");
    let recovery = &d["discovery"]["recovery"];
    let scores: Vec<&str> =
        recovery["scores"].as_array().unwrap().iter().map(|s| s["score"].as_str().unwrap()).collect();
    let data = ["evidence", "z between kinds", "z within kinds", "correlation", "distance", "random"];
    let model = ["attention", "attention per cell with both", "query · key", "cis weight", "cis contribution"];
    assert_eq!(scores, [&data[..], &model[..]].concat());
    let planted = std::fs::read_to_string(out.join("simulated/truth.tsv")).unwrap().lines().count() - 1;
    assert_eq!(recovery["links"], planted as u64);
    // Most planted links are within 100 kb: distance must find them, or coordinates were lost on the way.
    assert!(recovery["scores"][4]["auroc"].as_f64().unwrap() > 0.6, "{recovery}");
    assert_eq!(serde_json::from_str::<Value>(&std::fs::read_to_string(out.join("demo.json")).unwrap()).unwrap(), d);

    // Links: pairs near a gene, the likeliest first, with what the model says of them.
    let table = std::fs::read_to_string(out.join("discover/links.tsv")).unwrap();
    let mut rows = table.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let at = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let of_model = ["attention", "cis_weight", "cis_contribution"];
    assert_eq!(head, [&sccrossrec::discover::evidence::table::COLUMNS[..], &of_model].concat());
    let rows: Vec<Vec<&str>> = rows.collect();
    assert_eq!(d["discovery"]["links"]["pairs"], rows.len() as u64);
    let number = |r: &[&str], name: &str| r[at(name)].parse::<f64>().unwrap();
    assert!(rows.is_sorted_by(|a, b| number(a, "log_odds") >= number(b, "log_odds")) && rows.len() > 100);
    for r in &rows {
        let odds = number(r, "log_odds");
        // Both hold four digits.
        assert!((number(r, "probability") - 1.0 / (1.0 + (-odds).exp())).abs() < 2e-4);
        assert!(number(r, "distance").abs() <= 500_000.0 && r.len() == head.len());
        // Of so few cells some pairs have no pairs to compare with.
        assert!(number(r, "error") > 0.0 || (number(r, "error").is_nan() && number(r, "z_between") == 0.0));
    }
    assert!(rows.iter().filter(|r| number(r, "error") > 0.0).count() > rows.len() / 2);
    assert!(rows.iter().filter(|r| number(r, "cis_weight") != 0.0).count() > rows.len() / 2);
    assert!(rows.iter().all(|r| number(r, "cis_weight") * number(r, "cis_contribution") >= 0.0));

    // The attention file: sorted rows, weights of a softmax, sums that the tables repeat.
    let f = hdf5::File::open(out.join("discover/attention.h5")).unwrap();
    let names = |n: &str| -> Vec<String> {
        let v = f.dataset(n).unwrap().read_raw::<VarLenUnicode>().unwrap();
        v.iter().map(|s| s.as_str().to_string()).collect()
    };
    let indptr = f.dataset("indptr").unwrap().read_raw::<u64>().unwrap();
    let [gene, peak] = ["gene", "peak"].map(|n| f.dataset(n).unwrap().read_raw::<u32>().unwrap());
    let [weight, score] = ["weight", "score"].map(|n| f.dataset(n).unwrap().read_raw::<f32>().unwrap());
    let cell_type = f.dataset("cell_type").unwrap().read_raw::<i32>().unwrap();
    let rows_of = f.dataset("cell").unwrap().read_raw::<u32>().unwrap();
    assert_eq!(rows_of, (0..160).collect::<Vec<u32>>(), "rows are in the order of the data set");
    let (genes, peaks, types) = (names("genes"), names("peaks"), names("cell_types"));
    assert_eq!((indptr.len(), names("cells").len(), cell_type.len()), (161, 160, 160));
    assert_eq!(*indptr.last().unwrap(), gene.len() as u64);
    assert_eq!(d["discovery"]["attention"]["pairs"], gene.len() as u64);
    assert!(!gene.is_empty() && peak.len() == gene.len() && weight.len() == gene.len());
    assert!(weight.iter().all(|&w| w > 0.0 && w <= 1.0) && score.iter().all(|&s| s > 0.8 && s <= 1.0));
    let chrom = |name: &str| name.split('-').next().unwrap().to_string();
    let mut sums: HashMap<(Option<i32>, String, String), (f64, u64)> = HashMap::new();
    for c in 0..160 {
        let row = indptr[c] as usize..indptr[c + 1] as usize;
        assert!(row.clone().zip(row.clone().skip(1)).all(|(a, b)| (gene[a], peak[a]) < (gene[b], peak[b])));
        for i in row {
            for t in [None, Some(cell_type[c])] {
                let key = (t, genes[gene[i] as usize].clone(), peaks[peak[i] as usize].clone());
                let e = sums.entry(key).or_default();
                e.0 += f64::from(weight[i]);
                e.1 += 1;
            }
        }
    }
    let mut tables = vec![(None, out.join("discover/attention.tsv"))];
    tables.extend((0..3).map(|t| (Some(t), out.join(format!("discover/attention/{}.tsv", types[t as usize])))));
    for (t, path) in tables {
        let table = attended(&path);
        assert_eq!(table.len(), sums.keys().filter(|k| k.0 == t).count(), "{}", path.display());
        for ((g, p), (w, cells)) in table {
            let (want, n) = sums[&(t, g, p)];
            assert!((w - want).abs() <= 1e-8 * want && cells == n, "{w} {want} {cells} {n}");
        }
    }
    // The links have the same sums of attention, to four digits.
    for r in &rows {
        let key = (None, r[at("gene")].to_string(), r[at("peak")].to_string());
        let want = sums.get(&key).map_or(0.0, |x| x.0);
        assert!((number(r, "attention") - want).abs() <= 5e-3 * want, "{key:?}: {want}");
    }
    // Attention stays on the chromosome.
    let rna = hdf5::File::open(out.join("simulated/rna.h5ad")).unwrap();
    let gene_chrom = rna.dataset("var/chrom").unwrap().read_raw::<VarLenUnicode>().unwrap();
    assert!((0..gene.len()).all(|i| gene_chrom[gene[i] as usize].as_str() == chrom(&peaks[peak[i] as usize])));
    drop((f, rna));

    // The verbs, one by one, on what the demo left.
    let run = out.join("run");
    let e = ok(&["evaluate", "--json", "--run", text(&run)]);
    assert_eq!(e["matching"], d["evaluation"]["matching"]);
    assert_eq!(e["translation"], d["evaluation"]["translation"]);
    let all = ok(&["evaluate", "--json", "--run", text(&run), "--part", "all", "--batch-size", "7"]);
    assert_eq!(all["matching"]["model"]["samples"], 320);
    let table = sccrossrec(&["evaluate", "--run", text(&run)]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("AUROC") && table.contains("all zeros") && table.contains("–") && !table.contains("NaN"),
        "{table}"
    );

    // Other batches, one thread: the same files, byte by byte.
    let again = dir.path().join("again");
    let truth = out.join("simulated/truth.tsv");
    let mut args = vec!["discover", "--json", "--run", text(&run), "--out", text(&again)];
    args.extend(["--threads", "1", "--batch-size", "7", "--truth", text(&truth)]);
    assert_eq!(ok(&args)["recovery"], *recovery);
    let tables = ["attention.tsv", "attention/type1.tsv", "attention/type3.tsv", "links.tsv", "links-untested.tsv"];
    for file in tables.into_iter().chain(["peaks.tsv", "genes.tsv", "attention-peaks.tsv", "attention-genes.tsv"]) {
        let read = |d: &Path| std::fs::read(d.join(file)).unwrap();
        assert!(read(&out.join("discover")) == read(&again), "{file} depends on the batches or the number of threads");
    }
    let one = dir.path().join("one");
    let j = ok(&["discover", "--json", "--run", text(&run), "--out", text(&one), "--cell-types", "type2"]);
    assert_eq!(attended(&one.join("attention.tsv")), attended(&again.join("attention/type2.tsv")));
    assert_eq!(j["attention"]["cell_types"].as_array().unwrap().len(), 1);
    assert!(j["recovery"].is_null());
}

#[test]
fn repeats_itself() {
    let dir = tempfile::tempdir().unwrap();
    let strip = |mut d: Value| {
        for at in ["seconds", "seconds_total", "out", "simulated", "training", "discovery", "report"] {
            d.as_object_mut().unwrap().remove(at);
        }
        d["data"].as_object_mut().unwrap().remove("path");
        d
    };
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (x, y) = (demo(&a), demo(&b));
    let page = std::fs::read_to_string(x["report"].as_str().unwrap()).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("id=\"known\""));
    assert_eq!(x["discovery"]["recovery"], y["discovery"]["recovery"]);
    assert_eq!(strip(x), strip(y));
    let read = |d: &Path, f: &str| std::fs::read(d.join(f)).unwrap();
    for f in ["discover/attention.tsv", "discover/links.tsv", "simulated/truth.tsv", "run/checkpoints/best.safetensors"]
    {
        assert!(read(&a, f) == read(&b, f), "{f} differs between two runs");
    }
}

#[test]
fn mistakes_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |args: &[&str], word: &str| {
        let out = sccrossrec(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(word) && err.trim_end().lines().count() == 1, "{args:?}: {err}");
    };
    let out = dir.path().join("out");
    let missing = dir.path().join("none");
    fails(&["evaluate", "--run", text(&missing)], "none");
    fails(&["discover", "--run", text(&missing), "--out", text(&out)], "none");
    fails(&["simulate", "--out", text(&out), "--cells", "0"], "`cells`");
    fails(&["demo", "--out", text(&out), "--recipe", "x"], "--recipe x");
    fails(&["demo", "--out", text(&out), "--device", "cuda"], "--device cuda");
    assert!(!out.exists(), "nothing is left behind");
    std::fs::write(&out, "").unwrap();
    fails(&["demo", "--out", text(&out)], "is a file");
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("x"), "").unwrap();
    fails(&["simulate", "--out", text(&full)], "--force");
}
