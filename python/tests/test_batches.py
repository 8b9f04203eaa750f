"""Cells for training loops."""

import numpy as np
import pytest
import sccrossrec as scx


def test_rows_are_those_of_the_input(data, simulated):
    rna, atac = simulated
    cells = [3, 0, 3]
    for half, adata, names in (("rna", rna, data.genes.index), ("atac", atac, data.peaks.index)):
        got = data.rows(cells, half)
        want = adata[data.obs.index[cells]][:, names].X
        assert got.shape == want.shape and (got != want).nnz == 0 and got.has_sorted_indices
    with pytest.raises(IndexError, match="the data have"):
        data.rows([len(data)], "rna")
    with pytest.raises(IndexError):
        data.rows([-1], "rna")
    with pytest.raises(ValueError, match="dna"):
        data.rows([0], "dna")
    assert data.rows([], "rna").shape == (0, len(data.genes))


def test_every_pair_once(data):
    pairs = data.pairs()
    train = pairs[pairs.part == "train"]
    batches = list(data.batches(batch_size=50, seed=3))
    seen = np.concatenate([np.stack([b.rna_cell, b.atac_cell, b.label], 1) for b in batches])
    want = train[["rna", "atac", "label"]].to_numpy()
    assert sorted(map(tuple, seen)) == sorted(map(tuple, want)) and not np.array_equal(seen, want)
    assert [len(b.label) for b in batches[:-1]] == [50] * (len(batches) - 1)
    assert ((train.rna == train.atac) == (train.label == 1)).all()
    again = next(data.batches(batch_size=50, seed=3))
    assert np.array_equal(again.rna_cell, batches[0].rna_cell)
    assert not np.array_equal(next(data.batches(batch_size=50, seed=4)).rna_cell, again.rna_cell)
    first = next(data.batches(part="test", shuffle=False, batch_size=4))
    assert np.array_equal(first.rna_cell, pairs[pairs.part == "test"].rna[:4])


def test_what_is_refused(data):
    for wrong in (dict(to="jax"), dict(part="all"), dict(batch_size=0)):
        with pytest.raises(scx.UsageError):
            data.batches(**wrong)
    with pytest.raises(scx.InputError, match="other"):
        data.batches(pairs="other")


def test_torch_shares_the_memory(data):
    torch = pytest.importorskip("torch")
    batch = next(data.batches(to="torch", batch_size=8, shuffle=False))
    plain = next(data.batches(batch_size=8, shuffle=False))
    assert np.array_equal(batch.rna.to_dense().numpy(), plain.rna.toarray())
    assert batch.label.dtype == torch.uint8
