//! The published data sets: small file sets of their exact names, columns and types.

use std::path::Path;

use crate::common::python::{python_with_anndata, run_python};
use assert_cmd::Command;
use sccrossrec::dataset::DataSet;
use sccrossrec::prepare::presets::{PRESETS, Preset};

fn cli() -> Command {
    Command::cargo_bin("sccrossrec").unwrap()
}

/// Writes the files of all data sets as their authors' Python writes them: categorical labels, CSR in 32-bit floats,
/// columns of `var` as they come from an annotation table and from highly_variable_genes, FASTA by bedtools.
const SCRIPT: &str = r#"
import os, sys, warnings
warnings.simplefilter("ignore")
import anndata, numpy as np, pandas as pd, scipy.sparse as sp

root, chromosomes, cells, genes, peaks = sys.argv[1], 29, 60, 87, 145
rng = np.random.default_rng(906)
chroms = [f"chr{i}" for i in range(1, chromosomes + 1)]

def counts(n, m, binary=False):
    x = rng.poisson(0.4, (n, m)).astype(np.float32)
    x[np.arange(n), np.arange(n) % m] = 1
    return sp.csr_matrix(np.minimum(x, 1) if binary else x)

def make(name, rna, atac, fasta, strand, four, old_dot_names):
    os.makedirs(f"{root}/{name}")
    obs = pd.DataFrame({
        "domain": pd.Categorical(["scRNA-seq"] * cells),
        "cell_type": pd.Categorical(rng.choice(["Ast", "Ex", "In"], cells)),
        "batch": pd.Categorical(rng.choice(["s1d1", "s1d2", "s2d1", "s3d6"], cells)),
        "n_counts": rng.integers(100, 90000, cells).astype(np.float32),
    }, index=[f"{rng.integers(1 << 60):015x}-{i}" for i in range(cells)])
    chrom = [chroms[i % chromosomes] for i in range(genes)]
    start = rng.integers(1000, 10 ** 8, genes)
    var = pd.DataFrame({
        "chrom": pd.Categorical(chrom), "chromStart": start.astype(np.float64),
        "chromEnd": (start + 5000).astype(np.float64), "name": [f"Gene{i}" for i in range(genes)],
        "score": ["."] * genes, "thickStart": ["."] * genes,
    }, index=[f"Gene{i}" for i in range(genes)])
    if strand:
        var[strand] = pd.Categorical(rng.choice(["+", "-"], genes))
    if four:
        var["highly_variable"] = rng.random(genes) < 0.3
        var["highly_variable_rank"] = np.where(var["highly_variable"], np.arange(genes), np.nan).astype(np.float32)
        var["means"] = rng.random(genes)
        var["variances"] = rng.random(genes)
        var["variances_norm"] = rng.random(genes)
    a = anndata.AnnData(counts(cells, genes), obs=obs, var=var)
    if not four:
        a.layers["counts"] = a.X.copy()
        a.X = a.X.log1p()
        a.var["gene_id"] = [f"ENSG{i:011d}" for i in range(genes)]
    a.write_h5ad(f"{root}/{name}/{rna}", compression="gzip")
    pchrom = [chroms[(7 * i) % chromosomes] for i in range(peaks)]
    pstart = rng.integers(1000, 10 ** 8, peaks)
    sep = (":", "-") if old_dot_names else ("-", "-")
    pvar = pd.DataFrame({
        "chrom": pd.Categorical(pchrom), "chromStart": pstart.astype(np.int64), "chromEnd": pstart.astype(np.int64) + 501,
    }, index=[f"{c}{sep[0]}{s}{sep[1]}{s + 501}" for c, s in zip(pchrom, pstart)])
    b = anndata.AnnData(counts(cells, peaks, binary=not four), obs=obs.assign(domain=pd.Categorical(["scATAC-seq"] * cells)), var=pvar)
    b.write_h5ad(f"{root}/{name}/{atac}", compression="gzip")
    with open(f"{root}/{name}/{fasta}", "w") as f:
        for c, s in zip(pchrom, pstart):
            f.write(f">{c}:{s}-{s + 501}\n{''.join(rng.choice(list('ACGTacgtN'), 501))}\n")

for line in sys.argv[2].split(";"):
    name, rna, atac, fasta, strand, four = line.split("|")
    make(name, rna, atac, fasta, strand, four == "4", name in ("pbmc", "share"))
print("ok")
"#;

fn write_all(python: &Path, root: &Path) {
    let lines: Vec<String> = PRESETS
        .iter()
        .map(|p| {
            let strand = p.strand.unwrap_or("");
            [p.name, p.rna, p.atac, p.fasta, strand, &p.gene_features.len().to_string()].join("|")
        })
        .collect();
    assert_eq!(run_python(python, SCRIPT, &[root, Path::new(&lines.join(";"))]).trim(), "ok");
}

#[test]
fn each_is_prepared_by_its_name_alone() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_all(&python, dir.path());
    for p in &PRESETS {
        let out = dir.path().join(format!("{}.data", p.name));
        let done = cli()
            .args(["prepare", "--json", "--dataset", p.name])
            .arg("--from")
            .arg(dir.path().join(p.name))
            .arg("--out")
            .arg(&out)
            .assert()
            .success();
        let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
        // The published widths, 34 and 286, count the value column.
        let four = p.name != "neurips2021";
        assert_eq!(report["chromosomes"], 29, "{}", p.name);
        assert_eq!(report["gene_width"], if four { 33 } else { 29 }, "{}", p.name);
        assert_eq!(report["peak_width"], 285, "{}", p.name);
        assert_eq!(report["gene_features"], serde_json::json!(p.gene_features), "{}", p.name);
        assert_eq!((&report["cells"], &report["cell_types"]), (&60.into(), &3.into()), "{}", p.name);
        assert_eq!(report["rna_values"], if four { "counts" } else { "normalised" }, "{}", p.name);
        assert_eq!(report["atac_values"], if four { "counts" } else { "binary" }, "{}", p.name);
        assert_eq!((&report["positives"], &report["negatives"]), (&60.into(), &60.into()), "{}", p.name);
        let data = DataSet::open(&out).unwrap();
        assert_eq!(data.origin()["dataset"], p.name);
        let features = data.features();
        assert_eq!((features.gene_extra.len(), features.dna_length()), (87 * p.gene_features.len(), 256), "{}", p.name);
        if four {
            // Strand is read from its column, whatever that is called.
            let strand: Vec<f32> = features.gene_extra.chunks(4).map(|f| f[2]).collect();
            assert!(strand.iter().all(|s| [0.0, 1.0].contains(s)), "{}: {strand:?}", p.name);
            assert!(strand.contains(&0.0) && strand.contains(&1.0), "{}", p.name);
        }
        // Batches can be held out.
        cli().args(["samples", "--name", "held-out", "--split", "batch:batch", "--data"]).arg(&out).assert().success();
    }
}

#[test]
fn the_input_width_of_a_model_is_the_published_one() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_all(&python, dir.path());
    let config = Preset::named("issaac").unwrap().config(&dir.path().join("issaac")).unwrap();
    let out = dir.path().join("data");
    sccrossrec::prepare::prepare(&config, &out, &()).unwrap();
    let model = sccrossrec::train::recipe("published").unwrap().model_for(&DataSet::open(&out).unwrap());
    // x_i = [embedding 256 | value 1 | F_g], y_j = [embedding 256 | value 1 | F_p].
    assert_eq!((model.gene_features(), model.peak_features()), (33, 285));
    assert_eq!((model.embedding_dim + 34, model.embedding_dim + 286), (290, 542));
}

#[test]
fn the_table_and_the_faults() {
    let done = cli().args(["datasets", "--json"]).assert().success();
    let json: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let names: Vec<&str> = json.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["issaac", "pbmc", "share", "snare", "neurips2021"]);
    assert_eq!(json[0]["strand_column"], "_");
    assert_eq!(json[4]["peaks"], 116_490);
    let dir = tempfile::tempdir().unwrap();
    let fails = |args: &[&str], parts: &[&str]| {
        let out = cli().args(args).current_dir(dir.path()).assert().code(2);
        let text = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
        parts.iter().for_each(|p| assert!(text.contains(p), "{args:?}: {p:?} is missing in {text}"));
    };
    fails(&["prepare", "--dataset", "neurips", "--from", ".", "--out", "d"], &["neurips2021", "issaac"]);
    fails(&["prepare", "--dataset", "snare", "--out", "d"], &["--from"]);
    fails(&["prepare", "--dataset", "snare", "--from", "nowhere", "--out", "d"], &["nowhere"]);
    fails(&["prepare", "--dataset", "snare", "--from", ".", "--out", "d"], &["Chen-2019-RNA.h5ad", "datasets"]);
    fails(&["prepare", "--out", "d"], &["--h5mu", "--tenx", "--dataset"]);
    for name in ["Chen-2019-RNA.h5ad", "Chen-2019-ATAC.h5ad"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    fails(&["prepare", "--dataset", "snare", "--from", ".", "--out", "d"], &["SNARE_peak_output.fa", "annotate"]);
}
