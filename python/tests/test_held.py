"""AnnData in memory becomes the same data set as its file, whatever its types and layout."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sccrossrec as scx


def prepare(rna, atac, simulated, **flags):
    flags.setdefault("gtf", simulated[0].uns["sccrossrec"]["gtf"])
    return scx.prepare(rna, atac, progress=False, **flags)


def with_x(adata, x):
    return anndata.AnnData(x, obs=adata.obs, var=adata.var)


def test_memory_and_file_are_one(simulated, data):
    files = simulated[0].uns["sccrossrec"]
    assert prepare(files["rna"], files["atac"], simulated).hash == data.hash


@pytest.mark.parametrize("dtype", ["f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f4"])
def test_number_types(simulated, data, dtype):
    rna, atac = simulated
    if (rna.X.data > 127).any() or (rna.X.data % 1).any():
        x = rna.X
    else:
        x = rna.X.astype(dtype) if dtype[0] != ">" else rna.X.astype("f4")
    if dtype == ">f4":
        x = x.toarray().astype(">f4")
    assert prepare(with_x(rna, x), atac, simulated).hash == data.hash


def test_layouts(simulated, data):
    rna, atac = simulated
    wide = sp.csr_matrix(rna.X)
    wide.indptr, wide.indices = wide.indptr.astype("i8"), wide.indices.astype("i8")
    for x in (rna.X.toarray(), np.asfortranarray(rna.X.toarray()), rna.X.tocsc(), sp.csr_array(rna.X), rna.X.tocoo().tocsr(), wide):
        assert prepare(with_x(rna, x), atac, simulated).hash == data.hash, type(x)
    binary = atac.X.astype(bool).astype("f4")
    want = prepare(rna, with_x(atac, binary), simulated).hash
    assert prepare(rna, with_x(atac, atac.X.astype(bool)), simulated).hash == want


def test_unsorted_indices_and_views(simulated, data):
    rna, atac = simulated
    x = rna.X.copy()
    for i in range(x.shape[0]):
        span = slice(x.indptr[i], x.indptr[i + 1])
        x.indices[span], x.data[span] = x.indices[span][::-1].copy(), x.data[span][::-1].copy()
    x.has_sorted_indices = False
    assert prepare(with_x(rna, x), atac, simulated).hash == data.hash
    order = np.random.default_rng(0).permutation(rna.n_obs)
    back = rna[order].copy()[np.argsort(order)]
    assert back.is_view
    assert prepare(back, atac[:], simulated).hash == data.hash


@pytest.mark.parametrize(("value", "words"), [(-1.0, "negative|-1"), (np.nan, "NaN"), (np.inf, "inf")])
def test_values_that_are_refused(simulated, value, words):
    rna, atac = simulated
    x = rna.X.astype("f4").copy()
    x.data[7] = value
    with pytest.raises(scx.InputError, match=words) as e:
        prepare(with_x(rna, x), atac, simulated)
    assert "the RNA" in str(e.value) and e.value.exit_code == 2 and "\n" not in str(e.value)


def test_cells_that_do_not_meet(simulated):
    rna, atac = simulated
    other = atac.copy()
    other.obs_names = [f"other{i}" for i in range(atac.n_obs)]
    with pytest.raises(scx.InputError, match="cells"):
        prepare(rna, other, simulated)


def test_obs_columns_reach_the_data(simulated):
    rna, atac = (a.copy() for a in simulated)
    donors = np.array(["d1", "d2", "d3", "d4"])[np.arange(rna.n_obs) % 4]
    rna.obs["donor"] = donors
    kinds = np.array(["w", "x", "y", "z"])[np.arange(rna.n_obs) // 4 % 4]
    rna.obs["kind"] = pd.Categorical(kinds)
    rna.obs["number"] = np.arange(rna.n_obs) % 3
    made = prepare(rna, atac, simulated, cell_type="kind", batch="donor")
    want = rna.obs.loc[made.obs.index, "donor"]
    assert (made.obs["donor"].astype(str) == want).all()
    assert set(made.obs["cell_type"].cat.categories) == {"w", "x", "y", "z"}
    pairs = made.pairs()
    parts = [set(made.obs["donor"].iloc[pairs[pairs.part == p].rna]) for p in ("train", "test")]
    assert not parts[0] & parts[1]


def test_one_anndata_of_both(simulated, data):
    rna, atac = simulated
    both = anndata.concat([rna, atac], axis="var", merge="first")
    with pytest.raises(scx.InputError, match="feature_types"):
        prepare(both, None, simulated)
    both.var["feature_types"] = ["Gene Expression"] * rna.n_vars + ["Peaks"] * atac.n_vars
    made = prepare(both, None, simulated)
    assert (len(made), list(made.genes.index), list(made.peaks.index)) == (len(data), list(data.genes.index), list(data.peaks.index))


def test_mudata(simulated, data):
    mudata = pytest.importorskip("mudata")
    rna, atac = simulated
    made = prepare(mudata.MuData({"gex": rna.copy(), "peaks": atac.copy()}), None, simulated)
    assert (made.rows([0, 5], "atac") != data.rows([0, 5], "atac")).nnz == 0
    bare = {"rna": rna.copy(), "atac": atac.copy()}
    for adata in bare.values():
        del adata.obs["cell_type"]
    both = mudata.MuData(bare)
    both.obs["kind"] = rna.obs["cell_type"].reindex(both.obs_names)
    made = prepare(both, None, simulated, cell_type="kind")
    assert (made.obs["cell_type"].astype(str) == data.obs["cell_type"].astype(str)).all()
    with pytest.raises(scx.InputError, match="rna_modality"):
        prepare(mudata.MuData({"one": rna.copy(), "peaks": atac.copy()}), None, simulated)


def test_layers(simulated, data):
    rna, atac = simulated
    other = with_x(rna, rna.X * 0.5)
    other.layers["counts"] = rna.X
    assert prepare(other, atac, simulated, rna_layer="counts").rows([0], "rna").sum() == data.rows([0], "rna").sum()
    with pytest.raises(scx.InputError, match="counts"):
        prepare(other, atac, simulated, rna_layer="count")


def test_backed(simulated, data, tmp_path):
    rna, atac = simulated
    rna.write_h5ad(tmp_path / "rna.h5ad")
    backed = anndata.read_h5ad(tmp_path / "rna.h5ad", backed="r")
    assert prepare(backed, atac, simulated).hash == data.hash
    with pytest.raises(scx.InputError, match="view of a backed"):
        prepare(backed[:50], atac, simulated)
    backed.obs["new"] = 1
    with pytest.raises(scx.InputError, match="to_memory"):
        prepare(backed, atac, simulated)
    backed.file.close()
    writable = anndata.read_h5ad(tmp_path / "rna.h5ad", backed="r+")
    with pytest.raises(scx.InputError, match="mode 'r\\+'"):
        prepare(writable, atac, simulated)
    writable.file.close()


def test_what_is_no_data(simulated):
    with pytest.raises(TypeError, match="AnnData"):
        prepare(3, simulated[1], simulated)
    with pytest.raises(TypeError, match="twice"):
        prepare(*simulated, simulated, cell_type="a", cell_type_column="b")


def test_nothing_is_copied(simulated):
    """The arrays are numpy's own: a count of references says so."""
    import sys

    from sccrossrec import _held

    rna, _ = simulated
    values = rna.X.data
    counts = [sys.getrefcount(values)]
    held = _held.held(rna, "rna")
    counts.append(sys.getrefcount(values))
    assert held.name == "rna"
    del held
    counts.append(sys.getrefcount(values))
    assert [c - counts[0] for c in counts] == [0, 1, 0]
