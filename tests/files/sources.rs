//! Every form of input gives the same: names, columns, values, and after `prepare` the same cells.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::common::forms::{self, Case};
use crate::common::python::python_with_anndata;
use crate::common::toy::{Toy, csr};
use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnData, Axis, Column, Matrix, Streaming};
use sccrossrec::data::source;
use sccrossrec::data::source::{Form, Modality, Select, Source};
use sccrossrec::dataset::DataSet;
use sccrossrec::prepare::{PrepareConfig, prepare};

fn rows(matrix: &Matrix, obs: &[String], var: &[String], how: Streaming) -> sccrossrec::Result<Csr<f32>> {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Csr::new();
    matrix.for_each_block(how, dir.path(), obs, var, |b| {
        (0..b.rows()).for_each(|i| out.push_row(b.row(i).0.iter().copied().zip(b.row(i).1.iter().copied())));
        Ok(())
    })?;
    Ok(out)
}

fn all_of(source: &dyn Source) -> (Vec<String>, Vec<String>, Csr<f32>) {
    let (obs, var) = (source.names(Axis::Obs).unwrap(), source.names(Axis::Var).unwrap());
    let matrix = source.matrix(None, "--layer").unwrap();
    assert_eq!((matrix.rows(), matrix.cols()), (obs.len(), var.len()));
    let whole = rows(&matrix, &obs, &var, Streaming::default()).unwrap();
    let piecewise = rows(&matrix, &obs, &var, Streaming { block: 7, bucket: 11 }).unwrap();
    assert_eq!(whole, piecewise, "blocks change nothing");
    (obs, var, whole)
}

/// The suite that every form passes.
fn check(case: &Case, toy: &Toy) {
    for (modality, path, select, names, dense) in [
        (Modality::Rna, &case.rna, &case.rna_select, &toy.genes, &toy.rna),
        (Modality::Atac, &case.atac, &case.atac_select, &toy.peaks, &toy.atac),
    ] {
        let what = format!("{}, {modality:?}", case.name);
        assert_eq!(source::form_of(path, &()).unwrap(), case.form, "{what}");
        let source = source::open(path, modality, select, &()).unwrap();
        assert_eq!((source.form(), source.path()), (case.form, path.as_path()), "{what}");
        let (obs, var, values) = all_of(source.as_ref());
        assert_eq!(obs, toy.barcodes, "{what}");
        // 10x writes a colon.
        let same = |a: &String, b: &String| a.replacen(':', "-", 1) == *b;
        assert!(var.len() == names.len() && var.iter().zip(names).all(|(a, b)| same(a, b)), "{what}: {var:?}");
        assert_eq!(values, csr(dense), "{what}");
        let types = source.column(Axis::Obs, "cell_type").unwrap();
        // (The AnnData pair has its types in the RNA file.)
        if case.typed && (modality == Modality::Rna || case.rna == case.atac) {
            if case.form == Form::MuData && modality == Modality::Atac {
                assert_eq!(types, None, "{what}: a column pulled up from the RNA is not one of the ATAC");
            } else {
                let types: Vec<String> = types.unwrap().into_text().into_iter().flatten().collect();
                assert_eq!(types, toy.types, "{what}");
            }
        } else if !case.typed {
            assert_eq!(types, None, "{what}");
        }
        for name in source.columns(Axis::Var).unwrap() {
            let column = source.column(Axis::Var, &name).unwrap();
            assert_eq!(column.map(|c| c.len()), Some(names.len()), "{what}: {name}");
        }
        assert_eq!(source.column(Axis::Var, "no such column").unwrap(), None, "{what}");
        let e = source.matrix(Some("no such layer"), "--some-flag").unwrap_err().to_string();
        assert!(e.contains("no such layer") && e.contains("--some-flag"), "{what}: {e}");
    }
}

#[test]
fn every_form_gives_the_same_and_prepares_to_the_same() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let gtf = dir.path().join("genes.gtf");
    let lines = toy.genes.iter().zip(&toy.gene_chrom).enumerate().map(|(i, (name, chrom))| {
        let (from, to) = (10 * i + 1, 10 * i + 5);
        format!("{chrom}\tx\tgene\t{from}\t{to}\t.\t+\t.\tgene_id \"E{i}\"; gene_name \"{name}\";\n")
    });
    std::fs::write(&gtf, lines.collect::<String>()).unwrap();
    let cases = forms::all(dir.path(), &toy);
    assert_eq!(cases.len(), 9);
    let mut first: Option<DataSet> = None;
    for case in &cases {
        check(case, &toy);
        let mut config = PrepareConfig::new(&case.rna, &case.atac);
        config.rna_select = case.rna_select.clone();
        config.atac_select = case.atac_select.clone();
        if !case.placed {
            config.gtf = Some(gtf.clone());
        }
        let out = dir.path().join(format!("data {}", case.name));
        let report = prepare(&config, &out, &()).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!((report.cells, report.genes, report.peaks, report.genes_unknown), (60, 25, 40, 0), "{}", case.name);
        assert_eq!(report.cell_types, if case.typed { 3 } else { 0 }, "{}", case.name);
        let data = DataSet::open(&out).unwrap();
        let Some(first) = &first else {
            first = Some(data);
            continue;
        };
        let (a, b) = (first.vocabulary(), data.vocabulary());
        let places = |v: &sccrossrec::vocabulary::Vocabulary| {
            let genes = v.genes.iter().map(|g| (g.name.clone(), v.chromosomes[g.chrom as usize].clone()));
            let peaks = v.peaks.iter().map(|p| (v.chromosomes[p.chrom as usize].clone(), p.start, p.end));
            (genes.collect::<Vec<_>>(), peaks.collect::<Vec<_>>())
        };
        assert_eq!(places(a), places(b), "{}", case.name);
        assert_eq!(a.cells, b.cells, "{}", case.name);
        let all: Vec<u32> = (0..60).collect();
        let (x, y) = (first.batch_of_cells(&all), data.batch_of_cells(&all));
        assert_eq!((&x.rna, &x.atac), (&y.rna, &y.atac), "{}", case.name);
    }
}

/// Damaged or unfitting files are one line that says what to give.
#[test]
fn what_does_not_fit_is_told() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let cases = forms::all(dir.path(), &toy);
    let path = |name: &str| cases.iter().find(|c| c.name == name).unwrap().rna.clone();
    let error = |p: &Path, m: Modality, s: &Select| {
        let e = source::open(p, m, s, &()).unwrap_err();
        assert_eq!(e.exit_code(), 2, "{e}");
        e.to_string()
    };
    let none = Select::default();
    let e = error(&path("10x before 3"), Modality::Rna, &none);
    assert!(e.contains("GRCh38, mm10") && e.contains("--tenx-genome"), "{e}");
    let genome = |g: &str| Select { genome: Some(g.into()), ..Select::default() };
    assert!(error(&path("10x"), Modality::Rna, &genome("hg18")).contains("GRCh38"));
    let modality = Select { modality: Some("protein".into()), ..Select::default() };
    let e = error(&path("h5mu"), Modality::Rna, &modality);
    assert!(e.contains("rna, atac") && e.contains("--rna-modality"), "{e}");
    let e = error(&path("h5ad"), Modality::Rna, &Select { layer: Some("raw".into()), ..Select::default() });
    assert!(e.contains("no `raw`"), "{e}");
    let e = error(dir.path(), Modality::Rna, &none);
    assert!(e.contains("matrix.mtx"), "{e}");
    let outs = dir.path().join("outs");
    std::fs::create_dir(&outs).unwrap();
    std::fs::copy(path("10x"), outs.join("filtered_feature_bc_matrix.h5")).unwrap();
    let inside = source::open(&outs, Modality::Rna, &none, &()).unwrap();
    assert_eq!((inside.form(), inside.names(Axis::Obs).unwrap()), (Form::TenX, toy.barcodes.clone()));
    let zarr = dir.path().join("a.zarr");
    std::fs::create_dir(&zarr).unwrap();
    std::fs::write(zarr.join(".zgroup"), "{}").unwrap();
    assert!(error(&zarr, Modality::Rna, &none).contains("Zarr"));
    let matrix = source::open(&path("Matrix Market").join("matrix.mtx.gz"), Modality::Rna, &none, &()).unwrap();
    assert_eq!(matrix.names(Axis::Obs).unwrap(), toy.barcodes);

    // The matrix of the folder, damaged in many ways.
    let folder = path("Matrix Market before 3");
    let matrix = folder.join("matrix.mtx");
    let good = std::fs::read_to_string(&matrix).unwrap();
    let mut lines: Vec<&str> = good.lines().collect();
    let broken: Vec<(String, &str)> = vec![
        (String::new(), "first line"),
        ("hello\n".into(), "first line"),
        (lines[0].into(), "ends before its sizes"),
        (good.replacen("coordinate", "array", 1), "dense"),
        (good.replacen("general", "symmetric", 1), "kind"),
        (good.replacen(lines[2], "25 60", 1), "three sizes"),
        (good.replacen(lines[2], "25 60 99999999999999999999", 1), "three sizes"),
        (good.replacen(lines[2], "99999999999 60 5", 1), "2^32"),
        (good.replacen(lines[2], "26 60 5", 1), "26 rows"),
        (good.replacen(lines[3], "26 1 1", 1), "row 26 of 25"),
        (good.replacen(lines[3], "0 1 1", 1), "row 0"),
        (good.replacen(lines[3], "1 61 1", 1), "column 61 of 60"),
        (good.replacen(lines[3], "1 1", 1), "not an entry"),
        (good.replacen(lines[3], "1 1 x", 1), "not an entry"),
        (good.replacen(lines[3], "1 1 1 1", 1), "not an entry"),
        (good.replacen(lines[3], "1 1 nan", 1), "NaN"),
        (good.replacen(lines[3], "1 1 -1", 1), "negative"),
        (format!("{good}1 1 1\n"), "one entry more"),
        (
            {
                lines.pop();
                lines.join("\n")
            },
            "ends after",
        ),
    ];
    for (text, part) in broken {
        std::fs::write(&matrix, &text).unwrap();
        let found = source::open(&folder, Modality::Rna, &none, &()).and_then(|s| {
            let m = s.matrix(None, "--layer")?;
            rows(&m, &s.names(Axis::Obs)?, &s.names(Axis::Var)?, Streaming::default())
        });
        let e = found.expect_err(part);
        assert!(e.exit_code() == 2 && e.to_string().contains(part), "{part}: {e}");
    }
}

/// Columns and values as Python's readers see them, a JSON document for each question.
const SCRIPT: &str = r#"
import json, sys, warnings
warnings.simplefilter("ignore")
import anndata, mudata, numpy as np, pandas as pd, scanpy as sc, scipy.sparse as sp

def values(s):
    if isinstance(s.dtype, pd.CategoricalDtype):
        s = s.astype(object)
    return [None if pd.isna(v) else (v if isinstance(v, str) else float(v)) for v in s]

def frame(df):
    return {str(c): values(df[c]) for c in df.columns}

def matrix(m):
    if m is None:
        return None
    coo = sp.coo_matrix(m)
    d = coo.data.astype(np.float32)
    keep = (d != 0) | np.isnan(d)
    order = np.lexsort((coo.col[keep], coo.row[keep]))
    return {"shape": list(coo.shape), "row": coo.row[keep][order].tolist(), "col": coo.col[keep][order].tolist(),
            "value": [None if np.isnan(v) else float(v) for v in d[keep][order]]}

def describe(a):
    out = {"obs_names": list(map(str, a.obs_names)), "var_names": list(map(str, a.var_names)),
           "obs": frame(a.obs), "var": frame(a.var), "X": matrix(a.X),
           "layers": {k: matrix(v) for k, v in a.layers.items()}}
    if getattr(a, "raw", None) is not None:
        out["raw"] = {"var_names": list(map(str, a.raw.var_names)), "X": matrix(a.raw.X)}
    return out

# One question a line, one answer a line: to load all this takes longer than most files.
for question in sys.stdin:
    kind, path, *to = json.loads(question)
    if kind == "h5ad":
        out = describe(anndata.read_h5ad(path))
    elif kind == "h5mu":
        out = {name: describe(a) for name, a in mudata.read_h5mu(path).mod.items()}
    elif kind == "mtx":
        out = describe(sc.read_10x_mtx(path, gex_only=False))
    elif kind == "write-mtx":
        import gzip, os, scipy.io
        a = sc.read_10x_h5(path, gex_only=False)
        os.makedirs(to[0])
        scipy.io.mmwrite(to[0] + "/matrix.mtx", sp.coo_matrix(a.X.T.astype(int)))
        with open(to[0] + "/matrix.mtx", "rb") as f, gzip.open(to[0] + "/matrix.mtx.gz", "wb") as g:
            g.write(f.read())
        os.remove(to[0] + "/matrix.mtx")
        with gzip.open(to[0] + "/features.tsv.gz", "wt") as f:
            for name, row in a.var.iterrows():
                f.write(f"{row.gene_ids}\t{name}\t{row.feature_types}\n")
        with gzip.open(to[0] + "/barcodes.tsv.gz", "wt") as f:
            f.writelines(b + "\n" for b in a.obs_names)
        out = {}
    else:
        out = describe(sc.read_10x_h5(path, genome=None if kind == "10x" else kind, gex_only=False))
    print(json.dumps(out), flush=True)
"#;

/// Python at work on [`SCRIPT`].
struct Python {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Python {
    fn new(python: &Path) -> Self {
        let mut command = Command::new(python);
        command.args(["-W", "error", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Python { child, answers }
    }

    fn ask(&mut self, kind: &str, args: &[&Path]) -> serde_json::Value {
        let args = args.iter().map(|a| a.to_str().unwrap());
        let question: Vec<&str> = [kind].into_iter().chain(args).collect();
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", serde_json::json!(question)).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "Python has no answer to {question:?}");
        serde_json::from_str(&answer).unwrap()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn texts(v: &serde_json::Value) -> Vec<String> {
    v.as_array().unwrap().iter().map(|x| x.as_str().unwrap().to_string()).collect()
}

fn compare_column(column: &Column, theirs: &serde_json::Value, what: &str) {
    let theirs = theirs.as_array().unwrap();
    assert_eq!(column.len(), theirs.len(), "{what}");
    let numbers: Option<Vec<f64>> = match column {
        Column::Ints(v) => Some(v.iter().map(|&x| x as f64).collect()),
        Column::Floats(v) => Some(v.clone()),
        Column::Bools(v) => Some(v.iter().map(|&x| f64::from(u8::from(x))).collect()),
        Column::Strings(_) | Column::Categorical { .. } => None,
    };
    if let Some(numbers) = numbers {
        for (i, (a, b)) in numbers.iter().zip(theirs).enumerate() {
            let same = b.as_f64().map_or(a.is_nan() && b.is_null(), |b| *a == b);
            assert!(same, "{what}, row {i}: {a} {b}");
        }
        return;
    }
    let ours: Vec<&str> = match column {
        Column::Strings(v) => v.iter().map(String::as_str).collect(),
        Column::Categorical { codes, categories } => {
            codes.iter().map(|&c| usize::try_from(c).map_or("", |c| categories[c].as_str())).collect()
        }
        _ => unreachable!("numbers are compared above"),
    };
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let same = match b {
            serde_json::Value::String(s) => a == s,
            serde_json::Value::Number(n) => a.parse().ok() == n.as_f64(),
            _ => a.is_empty(), // missing
        };
        assert!(same, "{what}, row {i}: {a:?} {b}");
    }
}

/// Compares a matrix; values that cannot be used must be told.
fn compare_matrix(matrix: &Matrix, obs: &[String], var: &[String], theirs: &serde_json::Value, what: &str) -> bool {
    let shape = [matrix.rows(), matrix.cols()];
    assert_eq!(serde_json::json!(shape), theirs["shape"], "{what}");
    let values = theirs["value"].as_array().unwrap();
    let found = rows(matrix, obs, var, Streaming { block: 1000, bucket: 3000 });
    let bad = |v: &serde_json::Value| v.as_f64().is_none_or(|v| v < 0.0 || v.is_infinite());
    if values.iter().any(bad) {
        let e = found.unwrap_err().to_string();
        assert!(e.contains("NaN") || e.contains("negative") || e.contains("infinite"), "{what}: {e}");
        return false;
    }
    let found = found.unwrap();
    let (mut row, mut col) = (Vec::new(), Vec::new());
    for i in 0..found.rows() {
        for &c in found.row(i).0 {
            row.push(i);
            col.push(c);
        }
    }
    assert_eq!(serde_json::json!(row), theirs["row"], "{what}");
    assert_eq!(serde_json::json!(col), theirs["col"], "{what}");
    for (i, (a, b)) in found.values.iter().zip(values).enumerate() {
        assert_eq!(f64::from(*a), b.as_f64().unwrap(), "{what}, entry {i}");
    }
    true
}

/// Everything Python reads is what we read; returns the number of columns and matrices compared.
fn compare(ours: &dyn Source, theirs: &serde_json::Value, what: &str) -> (usize, usize) {
    let (obs, var) = (ours.names(Axis::Obs).unwrap(), ours.names(Axis::Var).unwrap());
    assert_eq!(obs, texts(&theirs["obs_names"]), "{what}");
    assert_eq!(var, texts(&theirs["var_names"]), "{what}");
    let mut columns = 0;
    for (axis, frame) in [(Axis::Obs, &theirs["obs"]), (Axis::Var, &theirs["var"])] {
        let theirs = frame.as_object().unwrap();
        let names = ours.columns(axis).unwrap();
        for (name, values) in theirs {
            assert!(names.contains(name), "{what}: no column {name}; there are {names:?}");
            let column = ours.column(axis, name).unwrap().unwrap();
            compare_column(&column, values, &format!("{what}, {}/{name}", axis.name()));
            columns += 1;
        }
        assert_eq!(names.len(), theirs.len(), "{what}: {names:?}");
    }
    let mut matrices = 0;
    if theirs["X"].is_null() {
        let e = ours.matrix(None, "--rna-layer").unwrap_err().to_string();
        assert!(e.contains("no matrix at"), "{what}: {e}");
    } else {
        let x = ours.matrix(None, "--rna-layer").unwrap();
        matrices += usize::from(compare_matrix(&x, &obs, &var, &theirs["X"], what));
    }
    let layers = theirs["layers"].as_object().unwrap();
    let mut names = ours.layers();
    names.sort();
    assert!(names.iter().eq(layers.keys()), "{what}: {names:?}");
    for (name, values) in layers {
        let layer = ours.matrix(Some(name), "--rna-layer").unwrap();
        matrices += usize::from(compare_matrix(&layer, &obs, &var, values, &format!("{what}, {name}")));
    }
    (columns, matrices)
}

fn real_data() -> Option<std::path::PathBuf> {
    match std::env::var_os("SCCROSSREC_TEST_DATA") {
        Some(path) => Some(path.into()),
        None => {
            eprintln!("SKIPPED: SCCROSSREC_TEST_DATA does not name a folder of real data");
            None
        }
    }
}

#[test]
fn every_real_file_is_read_as_python_reads_it() {
    let (Some(py), Some(root)) = (python_with_anndata(), real_data()) else { return };
    let mut python = Python::new(&py);
    let (mut columns, mut matrices) = (0, 0);
    let mut add = |(c, m): (usize, usize)| {
        columns += c;
        matrices += m;
    };
    let mut files: Vec<_> = std::fs::read_dir(root.join("h5ad_layouts")).unwrap().map(|e| e.unwrap().path()).collect();
    files.extend(["rna", "atac"].map(|f| root.join(format!("neurips2021_starter/{f}.h5ad"))));
    files.sort();
    assert_eq!(files.len(), 13);
    let (mut tables, mut raws) = (0, 0);
    for path in &files {
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        let theirs = python.ask("h5ad", &[path]);
        let ours = AnnData::open(path).unwrap();
        tables += usize::from(ours.is_table(Axis::Obs).unwrap());
        add(compare(&ours, &theirs, &what));
        assert_eq!(ours.has_raw(), !theirs["raw"].is_null(), "{what}");
        if ours.has_raw() {
            raws += 1;
            let raw = ours.with_raw().unwrap();
            let (obs, var) = (raw.names(Axis::Obs).unwrap(), raw.names(Axis::Var).unwrap());
            assert_eq!(var, texts(&theirs["raw"]["var_names"]), "{what}, raw");
            let x = raw.matrix(None, "--rna-layer").unwrap();
            add((0, usize::from(compare_matrix(&x, &obs, &var, &theirs["raw"]["X"], &format!("{what}, raw")))));
        }
    }
    assert!(tables >= 2 && raws >= 4, "{tables} {raws}");
    for name in ["test_rna_atac.h5mu", "mudata_v0.1.2.h5mu"] {
        let path = root.join("muon").join(name);
        let theirs = python.ask("h5mu", &[&path]);
        let ours = source::modalities(&path, &()).unwrap();
        assert_eq!(ours.len(), 2);
        for (modality, data) in &ours {
            add(compare(data, &theirs[modality], &format!("{name}, {modality}")));
        }
    }
    let v3 = root.join("tenx/10x_v3_filtered_feature_bc_matrix.h5");
    add(compare(source::everything(&v3, &()).unwrap().as_ref(), &python.ask("10x", &[&v3]), "10x"));
    let legacy = root.join("tenx/10x_v1.2_multiple_genomes.h5");
    let genomes = source::genomes(&legacy, &()).unwrap();
    assert_eq!(genomes.len(), 2);
    for (genome, ours) in genomes {
        add(compare(ours.as_ref(), &python.ask(&genome, &[&legacy]), &genome));
    }
    let dir = tempfile::tempdir().unwrap();
    let mtx = dir.path().join("mtx");
    python.ask("write-mtx", &[&v3, &mtx]);
    add(compare(source::everything(&mtx, &()).unwrap().as_ref(), &python.ask("mtx", &[&mtx]), "mtx"));
    python.end();
    eprintln!("{columns} columns and {matrices} matrices are as Python reads them");
    assert!(columns > 200 && matrices > 15, "{columns} {matrices}");
}
