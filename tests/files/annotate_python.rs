//! Local regression against scikit-misc, variable genes against scanpy, and files that scanpy opens without a warning.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::python::{python_with_anndata, run_python};
use sccrossrec::annotate::loess::loess;
use sccrossrec::rng::Rng;

fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: SCCROSSREC_TEST_DATA does not name the folder of the real data");
    }
    dir
}

fn annotate(args: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_sccrossrec")).arg("annotate").args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Importing these packages may warn; what is done with them afterwards may not.
const IMPORTS: &str = r#"
import sys, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import anndata, numpy as np, scanpy as sc
    from skmisc.loess import loess
"#;

/// Random points, tied points, points far from 0: fitted values as scikit-misc's loess has them.
#[test]
fn loess_is_that_of_scikit_misc() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(11, 0);
    let mut text = String::new();
    let mut sets = 0;
    for n in [40, 101, 333, 1000, 1677] {
        for (step, offset, scale) in [(0.0, 0.0, 1.0), (0.05, 0.0, 1.0), (0.0, -7.0, 1e-3), (0.02, 100.0, 50.0)] {
            let normal = |rng: &mut Rng| (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0;
            let x: Vec<f64> = (0..n)
                .map(|_| {
                    let x = normal(&mut rng);
                    offset + scale * if step > 0.0 { (x / step).round() * step } else { x }
                })
                .collect();
            let y: Vec<f64> = x.iter().map(|x| ((x - offset) / scale).sin() + 0.3 * normal(&mut rng)).collect();
            let fitted = loess(&x, &y, 0.3).unwrap();
            for values in [&x, &y, &fitted] {
                let line: Vec<String> = values.iter().map(|v| format!("{v:e}")).collect();
                text += &(line.join(" ") + "\n");
            }
            sets += 1;
        }
    }
    let path = dir.path().join("points.txt");
    std::fs::write(&path, text).unwrap();
    let script = IMPORTS.to_string()
        + r#"
lines = [np.array(line.split(), dtype=float) for line in open(sys.argv[1])]
worst = 0
for x, y, ours in zip(lines[0::3], lines[1::3], lines[2::3]):
    model = loess(x, y, span=0.3, degree=2)
    model.fit()
    worst = max(worst, np.abs(np.array(model.outputs.fitted_values) - ours).max())
print(len(lines) // 3, worst)
"#;
    let out = run_python(&python, &script, &[&path]);
    let (count, worst) = out.trim().split_once(' ').unwrap();
    assert_eq!(count, sets.to_string());
    println!("loess: {out}");
    assert!(worst.parse::<f64>().unwrap() < 1e-9, "{out}");
}

/// The issue's own bound: of 500 top genes of `snare_cortex` 99 % are the same, values to 1e-3. (All values agree to
/// rounding; genes that are tied but for it may change places.)
#[test]
fn variable_genes_are_those_of_scanpy() {
    let (Some(data), Some(python)) = (data(), python_with_anndata()) else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, top, layer) in [("snare_cortex", 500, ""), ("neurips2021_starter", 100, "counts")] {
        let (rna, atac) = (data.join(name).join("rna.h5ad"), data.join(name).join("atac.h5ad"));
        let out = dir.path().join(name);
        let arg = |p: &Path| p.to_str().unwrap().to_string();
        let top_text = top.to_string();
        annotate(&["--rna", &arg(&rna), "--atac", &arg(&atac), "--n-top-genes", &top_text, "--out", &arg(&out)]);
        let script = IMPORTS.to_string()
            + r#"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the input, which may be of an old layout
    a = anndata.read_h5ad(sys.argv[1])
    top, layer = int(sys.argv[3]), sys.argv[4] or None
    want = sc.pp.highly_variable_genes(a, flavor="seurat_v3", n_top_genes=top, layer=layer, inplace=False)
ours = sc.read_h5ad(sys.argv[2]).var
for column in ["means", "variances", "variances_norm"]:
    w, o = want[column].to_numpy(), ours[column].to_numpy()
    print(column, np.abs(o - w).max() / np.abs(w).max(), (np.abs(o - w) / np.maximum(np.abs(w), 1e-300)).max())
w, o = want["highly_variable"].to_numpy(), ours["highly_variable"].to_numpy()
assert o.dtype == bool, o.dtype
print("same", (w & o).sum(), o.sum(), w.sum())
w, o = want["highly_variable_rank"].to_numpy(), ours["highly_variable_rank"].to_numpy()
assert sorted(o[~np.isnan(o)]) == list(range(top))
both = ~np.isnan(w) & ~np.isnan(o)
print("rank", np.abs(w[both] - o[both]).max())
"#;
        let printed =
            run_python(&python, &script, &[&rna, &out.join("rna.h5ad"), Path::new(&top_text), Path::new(layer)]);
        println!("{name}:\n{printed}");
        let field = |line: &str, i: usize| -> f64 {
            let line = printed.lines().find(|l| l.starts_with(&format!("{line} "))).expect("a line of each");
            line.split(' ').nth(i).unwrap().parse().unwrap()
        };
        for column in ["means", "variances", "variances_norm"] {
            assert!(field(column, 2) < 1e-9, "{printed}");
        }
        let (same, ours, theirs) = (field("same", 1), field("same", 2), field("same", 3));
        assert_eq!((ours, theirs), (f64::from(top), f64::from(top)));
        assert!(same >= 0.99 * f64::from(top), "{printed}");
        assert!(field("rank", 1) <= 20.0, "only ties change places: {printed}");
    }
}

/// Copies of every layout with a frame of groups, and what is written anew, opened with every warning an error.
#[test]
fn scanpy_opens_what_is_written() {
    let (Some(data), Some(python)) = (data(), python_with_anndata()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| data.join(name).to_str().unwrap().to_string();
    let atac = at("snare_cortex/atac.h5ad");
    let muon = at("muon/test_rna_atac.h5mu");
    let gtf = at("gtf/gencode.v43.genes.gtf.gz");
    let mut outs = Vec::new();
    for (name, rna, atac, more) in [
        ("new", at("snare_cortex/rna.h5ad"), &atac, &[][..]),
        ("seven", at("neurips2021_starter/rna.h5ad"), &at("neurips2021_starter/atac.h5ad"), &["--gtf", &gtf]),
        ("archive70", at("h5ad_layouts/anndata_archive_v0.7.0.h5ad"), &atac, &[]),
        ("archive78", at("h5ad_layouts/anndata_archive_v0.7.8.h5ad"), &atac, &[]),
        ("legacy", at("h5ad_layouts/anndata_archive_v0.5.0.h5ad"), &atac, &["--gtf", &gtf]),
        ("mudata", muon.clone(), &muon, &["--gtf", &gtf]),
        ("tenx", at("tenx/10x_v3_filtered_feature_bc_matrix.h5"), &atac, &[]),
    ] {
        let out = dir.path().join(name);
        let mut args = vec!["--rna", &rna, "--atac", atac, "--out", out.to_str().unwrap()];
        args.extend(more);
        annotate(&args);
        outs.push(out);
    }
    let script = IMPORTS.to_string()
        + r#"
for folder in sys.argv[1:]:
    rna, atac = sc.read_h5ad(folder + "/rna.h5ad"), sc.read_h5ad(folder + "/atac.h5ad")
    assert list(atac.var.columns[-3:]) == ["chrom", "chromStart", "chromEnd"], atac.var.columns
    assert (atac.var["chromStart"] < atac.var["chromEnd"]).all() and atac.var["chromStart"].dtype == np.int64
    name = folder.split("/")[-1]
    print(name, rna.n_obs, rna.n_vars, len(rna.obsm), len(rna.layers), rna.raw is not None)
    if name in ("seven", "legacy", "mudata"):
        v = rna.var
        known = v["chrom"] != "chrUnknown"
        assert known.mean() > 0.5 and v["chrom"][known].str.startswith("chr").all()
        assert set(v["strand"]) <= {"+", "-", "."}
        there = v[["chromStart", "chromEnd", "tss"]].notna().all(axis=1)
        v = v[there & (v["strand"] != ".")]
        want = np.where(v["strand"] == "+", v["chromStart"], v["chromEnd"] - 1)
        assert len(v) > 0 and (v["tss"] == want).all()
    if name in ("archive70", "archive78"):
        assert rna.obs["obs_cat"].dtype == "category" and rna.var["highly_variable"].dtype == bool
    # And it goes out and in again.
    rna.write_h5ad(folder + "/again.h5ad")
    assert (anndata.read_h5ad(folder + "/again.h5ad").var.columns == rna.var.columns).all()
"#;
    let paths: Vec<&Path> = outs.iter().map(PathBuf::as_path).collect();
    let printed = run_python(&python, &script, &paths);
    let want = [
        "new 10309 1677 0 0 False",
        "seven 500 600 0 1 False",
        "archive70 30 20 3 2 True",
        "archive78 30 20 3 2 True",
        "legacy 700 765 0 0 False",
        "mudata 1000 45 0 0 False",
        "tenx 1107 507 0 0 False",
    ];
    assert_eq!(printed.trim().lines().collect::<Vec<_>>(), want);
}
