//! `check`: lights before training.

use std::path::Path;

use serde_json::Value;

use crate::common::program::{ok, refused, run, text};
use crate::common::tiny::{self, Order};

fn checked(dir: &Path, data: &str) -> Value {
    let out = run(dir, &["check", data, "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn light<'a>(found: &'a Value, what: &str) -> &'a str {
    let lines = found["lines"].as_array().unwrap();
    let line = lines.iter().find(|l| l["what"] == what).unwrap_or_else(|| panic!("no {what} in {found:#}"));
    let light = line["light"].as_str().unwrap();
    // What is no good says why, and what to do.
    for key in ["reason", "remedy"] {
        assert_eq!(line[key].as_str().unwrap().is_empty(), light == "good", "{line}");
    }
    light
}

#[test]
fn lights_tell_good_data_from_bad() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    ok(d, &["simulate", "--out", "sim", "--cells", "800", "--genes", "150", "--peaks", "600", "--cell-types", "3"]);
    let files = ["prepare", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--out"];
    ok(d, &[&files[..], &["good"]].concat());
    let good = checked(d, "good");
    for what in ["cells", "cells with both", "cells dropped", "ATAC values", "cell types", "split"] {
        assert_eq!(light(&good, what), "good", "{what}: {good:#}");
    }
    for what in ["genes a cell", "peaks a cell", "genes with a TSS", "peaks with a place", "chromosomes"] {
        assert_eq!(light(&good, what), "good", "{what}: {good:#}");
    }
    assert_eq!(light(&good, "doublets"), "doubtful");
    // `X` was normalised, the layer was not.
    assert_eq!(light(&good, "RNA values"), "doubtful");
    ok(d, &[&files[..], &["counts", "--rna-layer", "counts"]].concat());
    assert_eq!(light(&checked(d, "counts"), "RNA values"), "good");
    let count = |found: &Value, of: &str| {
        let lines = found["lines"].as_array().unwrap();
        assert_eq!(found[of].as_u64(), Some(lines.iter().filter(|l| l["light"] == of).count() as u64));
        found[of].as_u64().unwrap()
    };
    assert_eq!(count(&good, "bad"), 0, "{good:#}");
    // Few cells, and genes without a place.
    tiny::prepared(d, "broken", Order::Plain);
    let broken = checked(d, "broken");
    for (what, want) in [
        ("cells", "bad"),
        ("genes with a TSS", "bad"),
        ("peaks at TSSs", "bad"),
        ("types of < 50 cells", "doubtful"),
        ("donors or batches", "doubtful"),
        ("peaks with a place", "good"),
    ] {
        assert_eq!(light(&broken, what), want, "{what}: {broken:#}");
    }
    assert!(count(&broken, "bad") >= 3 && count(&broken, "doubtful") >= 2 && count(&broken, "good") >= 3);
    // One modality alone cannot be trained on.
    ok(d, &["prepare", "--rna", "sim/rna.h5ad", "--like", "good", "--out", "half"]);
    let half = checked(d, "half");
    assert_eq!((light(&half, "cells with both"), light(&half, "split")), ("bad", "bad"), "{half:#}");
    // In words, the same, and how to go on.
    let out = run(d, &["check", "broken"]);
    let table = String::from_utf8(out.stdout.clone()).unwrap();
    assert!(table.starts_with("bad       cells ") && table.contains("why: ") && table.contains("do:  "), "{table}");
    assert!(text(&out).contains("next: mend what is bad"), "{}", text(&out));
    assert!(text(&run(d, &["check", "good"])).contains("next: sccrossrec train --data good"), "{table}");
}

#[test]
fn what_is_no_data_set_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    refused(&run(d, &["check", "nowhere"]), &["nowhere"]);
    std::fs::write(d.join("a.h5ad"), "x").unwrap();
    refused(&run(d, &["check", "a.h5ad"]), &["a.h5ad", "sccrossrec inspect", "sccrossrec prepare"]);
    ok(d, &["simulate", "--out", "sim", "--cells", "120", "--genes", "30", "--peaks", "80"]);
    ok(d, &["prepare", "--rna", "sim/rna.h5ad", "--atac", "sim/atac.h5ad", "--out", "data"]);
    let shard = d.join("data/shards/00000.shard");
    std::fs::write(&shard, &std::fs::read(&shard).unwrap()[..100]).unwrap();
    refused(&run(d, &["check", "data"]), &["00000.shard"]);
}
