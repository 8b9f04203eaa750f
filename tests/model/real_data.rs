//! Two published data sets from `.h5ad` to links and embeddings, through the program. They are read from the folder
//! named by the environment variable SCCROSSREC_TEST_DATA; without it these tests skip and say so.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let dir = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: SCCROSSREC_TEST_DATA does not name the folder of the real data");
    }
    dir
}

fn ok(args: &[&str]) -> Value {
    let out = Command::cargo_bin("sccrossrec").unwrap().args(args).args(["--json", "--quiet"]).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document on stdout")
}

/// What is known of a data set.
struct Known {
    name: &'static str,
    gtf: &'static str,
    cells: usize,
    genes: usize,
    peaks: usize,
    genes_in_gtf: usize,
    cell_types: usize,
    train: &'static [&'static str],
}

/// prepare → train → evaluate → discover → embed; gives back the evaluation.
fn through(root: &Path, k: &Known) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let input = |name: &str| root.join(name).to_str().unwrap().to_string();
    let (data, run, out) = (at("data"), at("run"), at("out"));
    let (rna, atac) = (input(&format!("{}/rna.h5ad", k.name)), input(&format!("{}/atac.h5ad", k.name)));
    let gtf = input(k.gtf);
    let p = ok(&["prepare", "--rna", &rna, "--atac", &atac, "--gtf", &gtf, "--out", &data]);
    assert_eq!((p["cells"].as_u64(), p["genes"].as_u64()), (Some(k.cells as u64), Some(k.genes as u64)), "{p}");
    assert_eq!(p["genes_in_gtf"].as_u64(), Some(k.genes_in_gtf as u64), "{p}");

    let mut args = vec!["train", "--data", &data, "--out", &run];
    args.extend(k.train);
    let t = ok(&args);
    assert!(t["last"]["loss"].as_f64().unwrap().is_finite(), "{t}");

    let e = ok(&["evaluate", "--run", &run]);
    let m = &e["matching"]["model"];
    // Split by cell: 10 % of the cells are positives of the test part, with as many negatives.
    let tenth = k.cells as u64 / 10;
    assert_eq!((m["samples"].as_u64(), m["positives"].as_u64()), (Some(2 * tenth), Some(tenth)), "{m}");
    let translation = &e["translation"];
    for at in ["rmse", "mae", "f1", "pearson", "foscttm", "rmse_expression"] {
        assert!(translation["model"][at].is_f64(), "{at}: {translation}");
    }
    // The mean minimises the squared error, up to the difference between training and test cells.
    let rmse = |who: &str| translation[who]["rmse"].as_f64().unwrap();
    assert!(rmse("gene_mean") < rmse("gene_majority") && rmse("gene_majority") < rmse("all_zeros"), "{translation}");

    let d = ok(&["discover", "--run", &run, "--out", &out, "--no-gzip"]);
    assert_eq!(d["cells"].as_u64(), Some(k.cells as u64));
    let a = &d["attention"];
    assert_eq!(a["cell_types"].as_array().unwrap().len(), k.cell_types);
    let cells: u64 = a["cell_types"].as_array().unwrap().iter().map(|t| t["cells"].as_u64().unwrap()).sum();
    assert_eq!(cells, k.cells as u64);
    let f = hdf5::File::open(Path::new(&out).join("attention.h5")).unwrap();
    assert_eq!(f.dataset("indptr").unwrap().size(), k.cells + 1);
    assert_eq!((f.dataset("genes").unwrap().size(), f.dataset("peaks").unwrap().size()), (k.genes, k.peaks));
    let rows = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).unwrap().lines().count() as u64 - 1;
    let attended = rows("attention.tsv");
    assert_eq!(attended, a["all"]["links"].as_u64().unwrap());
    assert!(attended > 99, "attention found {attended} links");
    // Links: every pair near a gene is in one of both tables.
    let (tested, untested) = (rows("links.tsv"), rows("links-untested.tsv"));
    assert_eq!([tested, untested].map(Some), [&d["links"]["pairs"], &d["links"]["untested"]].map(Value::as_u64));
    assert!(tested > 100, "{tested} pairs near a gene");
    let of_types = d["links"]["cell_types"].as_array().unwrap();
    assert!(of_types.len() <= k.cell_types && of_types.iter().all(|t| t["cells"].as_u64().unwrap() >= 50));

    let z = at("z.h5ad");
    ok(&["embed", "--run", &run, "--out", &z]);
    let f = hdf5::File::open(&z).unwrap();
    let set = f.dataset("obsm/X_sccrossrec").unwrap();
    assert_eq!(set.shape(), [k.cells, 64]);
    assert!(set.read_raw::<f32>().unwrap().iter().all(|x| x.is_finite()));
    println!("{}: {}", k.name, e["matching"]["model"]);
    e
}

#[test]
fn neurips2021_starter() {
    let Some(root) = folder() else { return };
    let k = Known {
        name: "neurips2021_starter",
        gtf: "gtf/gencode.v43.genes.gtf.gz",
        cells: 500,
        genes: 600,
        peaks: 600,
        genes_in_gtf: 576,
        cell_types: 21,
        train: &["--epochs", "5"],
    };
    through(&root, &k);
}

#[test]
fn snare_cortex() {
    let Some(root) = folder() else { return };
    let k = Known {
        name: "snare_cortex",
        gtf: "gtf/gencode.vM23.genes.gtf.gz",
        cells: 10_309,
        genes: 1_677,
        peaks: 25_734,
        genes_in_gtf: 1_597,
        cell_types: 15,
        train: &["--epochs", "4"],
    };
    let e = through(&root, &k);
    // 1,031 positives and as many negatives: chance is 0.5 ± 0.011.
    let accuracy = e["matching"]["model"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6, "four epochs of the default recipe reach 0.7 on held-out cells: {accuracy}");
}
