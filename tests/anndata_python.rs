//! Python's own `anndata` reads what the writer writes, without a warning.

mod common;

use common::python::{python_with_anndata, run_python};
use sccrossrec::data::anndata::{AnnDataWriter, Column, Frame};
use sccrossrec::model::Csr;

fn frames() -> (Frame, Frame) {
    let obs = Frame {
        index: vec!["AAAC-1".into(), "AAAG-1".into(), "ACCT-1".into()],
        columns: vec![
            (
                "cell_type".into(),
                Column::Categorical { codes: vec![1, -1, 0], categories: vec!["B".into(), "T é".into()] },
            ),
            ("total".into(), Column::Floats(vec![0.5, f64::NAN, 2.0])),
            ("donor".into(), Column::Strings(vec!["d1".into(), "".into(), "d2".into()])),
        ],
    };
    let var = Frame {
        index: ["g0", "g1", "g2", "g3"].map(String::from).to_vec(),
        columns: vec![
            ("start".into(), Column::Ints(vec![1, -2, 3, 4_000_000_000])),
            ("highly_variable".into(), Column::Bools(vec![true, false, false, true])),
        ],
    };
    (obs, var)
}

fn rows(dense: &[&[f32]]) -> Csr<f32> {
    let mut block = Csr::new();
    for row in dense {
        block.push_row(row.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, v)| (i as u32, *v)));
    }
    block
}

#[test]
fn python_opens_what_the_writer_writes() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    for gzip in [None, Some(1), Some(9)] {
        let path = dir.path().join("out.h5ad");
        let (obs, var) = frames();
        let mut w = AnnDataWriter::create_with(&path, &obs, &var, gzip).unwrap();
        let mut x = w.csr("X", 4).unwrap();
        let mut counts = w.csr("layers/counts", 4).unwrap();
        x.append(&rows(&[&[0.0, 1.5, 0.0, 2.0], &[0.0; 4]])).unwrap();
        counts.append(&rows(&[&[0.0; 4], &[0.0; 4], &[0.0; 4]])).unwrap();
        x.append(&rows(&[&[3.0, 0.0, 0.0, 0.25]])).unwrap();
        x.finish().unwrap();
        counts.finish().unwrap();
        w.dense_f32("obsm/X_sccrossrec", 3, 2, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        w.dense_f32("varm/loadings", 4, 1, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        w.dense_f32("layers/dense", 3, 4, &[0.5; 12]).unwrap();
        w.uns_string("sccrossrec/version", "0.1.0").unwrap();
        w.uns_string("sccrossrec/config", "{\"seed\": 906}").unwrap();
        w.finish().unwrap();
        let script = r#"
import sys, anndata, numpy as np, scipy.sparse as sp
a = anndata.read_h5ad(sys.argv[1])
assert sp.isspmatrix_csr(a.X) or isinstance(a.X, sp.csr_array), type(a.X)
assert a.X.dtype == np.float32
assert (a.X.toarray() == [[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 0, .25]]).all()
assert a.layers["counts"].nnz == 0 and a.layers["counts"].shape == (3, 4)
assert (a.layers["dense"] == 0.5).all() and a.layers["dense"].shape == (3, 4)
assert (a.obsm["X_sccrossrec"] == np.arange(6, dtype=np.float32).reshape(3, 2)).all()
assert (a.varm["loadings"] == [[1], [2], [3], [4]]).all()
assert list(a.obs_names) == ["AAAC-1", "AAAG-1", "ACCT-1"]
assert list(a.var_names) == ["g0", "g1", "g2", "g3"]
assert list(a.obs.columns) == ["cell_type", "total", "donor"], a.obs.columns
assert list(a.obs["cell_type"].cat.categories) == ["B", "T é"]
assert list(a.obs["cell_type"].cat.codes) == [1, -1, 0]
assert a.obs["total"].iloc[0] == .5 and np.isnan(a.obs["total"].iloc[1])
assert list(a.obs["donor"]) == ["d1", "", "d2"]
assert list(a.var["start"]) == [1, -2, 3, 4_000_000_000]
assert a.var["highly_variable"].dtype == bool and list(a.var["highly_variable"]) == [True, False, False, True]
assert a.uns["sccrossrec"] == {"version": "0.1.0", "config": '{"seed": 906}'}
print("ok")
"#;
        assert_eq!(run_python(&python, script, &[&path]).trim(), "ok");
    }
}

#[test]
fn python_opens_a_file_without_columns_or_matrix() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.h5ad");
    let obs = Frame { index: vec!["a".into(), "b".into()], columns: vec![] };
    let mut w = AnnDataWriter::create(&path, &obs, &Frame::default()).unwrap();
    w.dense_f32("obsm/z", 2, 1, &[1.0, 2.0]).unwrap();
    w.finish().unwrap();
    let script = r#"
import sys, anndata
a = anndata.read_h5ad(sys.argv[1])
assert a.shape == (2, 0) and a.X is None, (a.shape, a.X)
assert list(a.obs.columns) == [] and (a.obsm["z"] == [[1], [2]]).all()
print("ok")
"#;
    assert_eq!(run_python(&python, script, &[&path]).trim(), "ok");
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.h5ad");
    let (obs, var) = frames();
    let mut w = AnnDataWriter::create(&path, &obs, &var).unwrap();
    let mut x = w.csr("X", 4).unwrap();
    x.append(&rows(&[&[1.0, 0.0, 0.0, 0.0]])).unwrap();
    assert!(x.append(&rows(&[&[1.0; 5]])).is_err(), "a fifth column");
    assert!(x.append(&rows(&[&[1.0; 4], &[1.0; 4], &[1.0; 4]])).is_err(), "a fourth row");
    assert!(x.finish().is_err(), "two rows are missing");
    assert!(w.csr("X2", 4).is_err() && w.csr("layers/a", 3).is_err() && w.csr("layers/a/b", 4).is_err());
    assert!(w.finish().is_err(), "a matrix is not complete");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_hdf5_cannot_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.h5ad");
    let (mut obs, var) = frames();
    obs.columns.push(("a/b".into(), Column::Ints(vec![1, 2, 3])));
    assert!(AnnDataWriter::create(&path, &obs, &var).unwrap_err().to_string().contains("a/b"));
    let (mut obs, var) = frames();
    obs.index[1] = "nul\0".into();
    assert!(AnnDataWriter::create(&path, &obs, &var).unwrap_err().to_string().contains("NUL"));
    let (mut obs, var) = frames();
    obs.columns.push(("short".into(), Column::Ints(vec![1])));
    assert!(AnnDataWriter::create(&path, &obs, &var).unwrap_err().to_string().contains("short"));
    assert!(AnnDataWriter::create(&dir.path().join("no/out.h5ad"), &frames().0, &var).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
