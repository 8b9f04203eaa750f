//! Python's own `anndata` reads what the writer writes, without a warning.

use crate::common::python::{python_with_anndata, run_python};
use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnData, AnnDataWriter, Axis, Column, Frame, Streaming};

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

/// What Python writes, our reader reads: every encoding of a column and of a matrix.
#[test]
fn the_reader_reads_what_python_writes() {
    let Some(python) = python_with_anndata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("py.h5ad");
    let script = r#"
import sys, warnings
warnings.simplefilter("ignore")
import anndata, h5py, numpy as np, pandas as pd, scipy.sparse as sp
anndata.settings.allow_write_nullable_strings = True
x = np.array([[0, 1.5, 0, 2], [3, 0, 0, 0.25], [0, 0, 4, 0]])
obs = pd.DataFrame({
    "kind": pd.Categorical(["T", None, "B"]),
    "number": pd.Categorical([10, 20, 10]),
    "flag": [True, False, True],
    "maybe": pd.array([True, None, False], dtype="boolean"),
    "count": pd.array([1, None, 3], dtype="Int64"),
    "text": ["a", "b\u00e9", ""],
    "f": np.array([0.5, np.nan, 2], dtype=np.float32),
}, index=["c1", "c2", "c3"])
var = pd.DataFrame(index=["g1", "g2", "g3", "g4"])
a = anndata.AnnData(sp.csr_matrix(x), obs=obs, var=var)
a.layers["csc"] = sp.csc_matrix(x)
a.layers["dense"] = x
a.layers["half"] = x.astype(np.float16)
a.layers["fortran"] = np.asfortranarray(x)
a.layers["bool"] = sp.csr_matrix(x != 0)
a.layers["big"] = x.astype(">f8")
a.write_h5ad(sys.argv[1], compression="lzf")
with h5py.File(sys.argv[1], "a") as f:
    # Names and categories as nullable text, as pandas 3 has them; names of fixed length.
    v = f["obs/kind/categories"]
    names = [s.decode() for s in v[:]]
    del f["obs/kind/categories"]
    g = f["obs/kind"].create_group("categories")
    g.attrs["encoding-type"] = "nullable-string-array"
    g.attrs["encoding-version"] = "0.1.0"
    g["values"] = np.array(names, dtype=h5py.string_dtype())
    g["mask"] = np.zeros(len(names), dtype=bool)
    g = f["obs"].create_group("nullable")
    g.attrs["encoding-type"] = "nullable-string-array"
    g.attrs["encoding-version"] = "0.1.0"
    g["values"] = np.array(["a", "x", "c"], dtype=h5py.string_dtype())
    g["mask"] = np.array([False, True, False])
    del f["var/_index"]
    f["var/_index"] = np.array([b"g1", b"g2", b"g3", b"g4"], dtype="S4")
print("ok")
"#;
    assert_eq!(run_python(&python, script, &[&path]).trim(), "ok");
    let data = AnnData::open(&path).unwrap();
    let obs = data.names(Axis::Obs).unwrap();
    let var = data.names(Axis::Var).unwrap();
    assert_eq!((obs.join(" "), var.join(" ")), ("c1 c2 c3".into(), "g1 g2 g3 g4".into()));
    let column = |name: &str| data.column(Axis::Obs, name).unwrap().unwrap();
    let text = |v: &[&str]| v.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    assert_eq!(column("kind"), Column::Categorical { codes: vec![1, -1, 0], categories: text(&["B", "T"]) });
    assert_eq!(column("number"), Column::Categorical { codes: vec![0, 1, 0], categories: text(&["10", "20"]) });
    assert_eq!(column("flag"), Column::Bools(vec![true, false, true]));
    assert_eq!(column("text"), Column::Strings(text(&["a", "bé", ""])));
    assert_eq!(column("nullable"), Column::Strings(text(&["a", "", "c"])));
    for (name, want) in [("maybe", [1.0, f64::NAN, 0.0]), ("count", [1.0, f64::NAN, 3.0]), ("f", [0.5, f64::NAN, 2.0])]
    {
        let Column::Floats(got) = column(name) else { panic!("{name}: {:?}", column(name)) };
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        assert!(got.iter().zip(want).all(|(a, b)| same(*a, b)), "{name}: {got:?}");
    }
    assert_eq!(data.column(Axis::Obs, "no").unwrap(), None);
    let want = rows(&[&[0.0, 1.5, 0.0, 2.0], &[3.0, 0.0, 0.0, 0.25], &[0.0, 0.0, 4.0, 0.0]]);
    for layer in [None, Some("csc"), Some("dense"), Some("half"), Some("fortran"), Some("big"), Some("bool")] {
        let matrix = data.matrix(layer, "--layer").unwrap();
        let how = Streaming { block: 5, bucket: 2 };
        let mut got = Csr::new();
        matrix
            .for_each_block(how, dir.path(), &obs, &var, |b| {
                (0..b.rows()).for_each(|i| got.push_row(b.row(i).0.iter().copied().zip(b.row(i).1.iter().copied())));
                Ok(())
            })
            .unwrap();
        if layer == Some("bool") {
            got.values.iter().for_each(|v| assert_eq!(*v, 1.0));
            got.values.clone_from(&want.values);
        }
        assert_eq!(got, want, "{layer:?}");
    }
}
