"""A run and what it says."""

import json
import logging
import pickle

import anndata
import numpy as np
import pytest
import sccrossrec as scx
from conftest import QUICK


def test_train_and_log(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "sccrossrec"):
        model = scx.train(data, out=tmp_path / "run", device="cpu", progress=False, **QUICK)
    assert model.outcome["epochs"] == 1 and len(model.log) == 1
    assert any("epoch" in r.message for r in caplog.records)
    assert model.data is data and scx.Model(tmp_path / "run").data.hash == data.hash
    with pytest.raises(scx.InputError, match="not empty"):
        scx.train(data, out=tmp_path / "run", progress=False)
    more = scx.train(out=tmp_path / "run", resume=True, epochs=2, device="cpu", progress=False)
    assert more.outcome["epochs"] == 2


def test_errors_are_typed(data, tmp_path):
    with pytest.raises(scx.UsageError, match="--device") as e:
        scx.train(data, device="abacus", progress=False)
    assert isinstance(e.value, ValueError) and e.value.exit_code == 2
    with pytest.raises(scx.FileError) as e:
        scx.Data(tmp_path / "nothing")
    assert isinstance(e.value, OSError)
    with pytest.raises(scx.InputError):
        scx.Model(tmp_path)
    with pytest.raises(scx.Error):
        scx.train(data, lr="fast", progress=False)


def test_evaluate(model):
    found = model.evaluate(progress=False, no_baselines=True)
    assert found["matching"]["model"]["samples"] > 0


def test_embed_translate_and_back(model, data, simulated):
    embedded = model.embed(progress=False)
    assert list(embedded.obs_names) == list(data.obs.index)
    assert all(np.isfinite(np.asarray(m)).all() for m in embedded.obsm.values())
    expected = model.translate(progress=False)
    assert expected.shape == (len(data), len(data.genes))
    mine = simulated[0][::-2].copy()
    mine.obs_names = ["unknown", *mine.obs_names[1:]]
    model.add_to(mine, translation=True, progress=False)
    known = mine.obs_names.isin(data.obs.index)
    assert not known[0] and known.sum() >= mine.n_obs - 2
    name = next(iter(embedded.obsm))
    assert np.isnan(mine.obsm[name][~known]).all()
    assert np.array_equal(mine.obsm[name][known], np.asarray(embedded[mine.obs_names[known]].obsm[name]))
    x = expected[mine.obs_names[known], mine.var_names].X
    x = x.toarray() if hasattr(x, "toarray") else np.asarray(x)
    assert np.array_equal(mine.layers["sccrossrec"][known], x)
    stranger = anndata.AnnData(np.ones((2, 2), "f4"))
    with pytest.raises(scx.InputError, match="barcodes"):
        model.add_to(stranger, progress=False)


def test_match(model, data):
    table = model.match(top=3, progress=False)
    assert len(table) == 3 * len(data)
    assert set(table["rna_cell"]) == set(data.obs.index)


def test_attention(model, data):
    cell = data.obs.index[5]
    table = model.attention(cell)
    rna, atac = data.rows([5], "rna"), data.rows([5], "atac")
    assert set(table["gene"]) <= set(data.genes.index[rna.indices])
    assert set(table["peak"]) <= set(data.peaks.index[atac.indices])
    chrom = data.genes.loc[table["gene"], "chrom"].to_numpy()
    assert (chrom == data.peaks.loc[table["peak"], "chrom"].to_numpy()).all()
    assert (table["score"] > 0.5).all() and (table.groupby(["gene", "head"])["weight"].sum() < 1 + 1e-5).all()
    with pytest.raises(scx.UsageError, match="nobody"):
        model.attention("nobody")


def test_links(found, data, model, tmp_path):
    assert set(found["gene"]) <= set(data.genes.index) and set(found["peak"]) <= set(data.peaks.index)
    assert found["qvalue"].dropna().between(0, 1).all()
    text = {"chrom", "gene", "peak", "replicates", "cell_types"}
    assert all(found[c].dtype.kind in "fib" for c in set(found.columns) - text), found.dtypes
    of_model = scx.links(model, out=tmp_path / "links", null="none", progress=False)
    assert len(of_model) and (tmp_path / "links" / "discover.json").exists()
    page = scx.report(model, of_model, out=tmp_path / "report.html", no_evaluate=True, progress=False)
    assert page.read_text().lstrip().lower().startswith("<!doctype html")
    assert scx.report(found, out=tmp_path / "links.html", progress=False).exists()


def test_pictures(found, data, model, tmp_path):
    gene = found["gene"].iloc[0]
    picture = scx.pl.arcs(found, gene, max_q=1)
    assert picture._repr_svg_().lstrip().startswith("<svg") or "<svg" in picture.svg[:300]
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "a.svg").read_text() == picture.svg
    pictures = [scx.pl.curves(model), scx.pl.embedding(model), scx.pl.umap(model, colour="type")]
    pictures += [scx.pl.region(data, gene, found), scx.pl.dotplot(data, list(data.genes.index[:3]))]
    for picture in pictures:
        assert "<svg" in picture.svg
    pictures[3].save(tmp_path / "region.png")
    assert (tmp_path / "region.png").stat().st_size > 1000
    with pytest.raises(scx.Error, match="no such gene"):
        scx.pl.arcs(found, "no such gene")
    with pytest.raises(scx.InputError, match="folder"):
        scx.pl.arcs(type(found)(), "x")


def test_tables(data):
    assert {"light", "what", "value"} <= set(scx.check(data, progress=False).columns)
    assert "default" in scx.recipes().index and "epochs" in scx.recipes().columns
    assert "neurips2021" in scx.datasets().index
    kernels = scx.kernels.list()
    assert {"attend", "translate"} <= set(kernels["op"])
    with pytest.raises(scx.InputError, match="no file of that name"):
        scx.kernels.check("mine.cu", op="attend")
    with pytest.raises(scx.UsageError, match="attendd"):
        scx.kernels.bench(op="attendd")
    drawn = scx.pairs(data, "hard", negatives="hard", force=True)
    assert "hard" in data.pair_sets() and len(drawn) == len(data.pairs("hard"))


def test_pickles(data, model):
    assert pickle.loads(pickle.dumps(data)).hash == data.hash
    assert pickle.loads(pickle.dumps(model)).path == model.path


def test_progress_reaches_tqdm(data, capsys):
    scx.train(data, device="cpu", **QUICK)
    assert "towers" in capsys.readouterr().err


def test_settings(model):
    assert json.dumps(model.settings) and model.settings["data"]
