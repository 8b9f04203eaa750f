"""Ops on numpy against the same in a few lines of numpy."""

import numpy as np
import pytest
import scipy.sparse as sp
import sccrossrec as scx


def tables(genes, peaks, h, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype("f4") for s in ((genes, h), (h,), (peaks, h), (h,))]


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("f8")))


def test_translate_and_its_gradient():
    q, uq, k, uk = tables(7, 40, 8)
    peaks = sp.random(5, 40, 0.3, format="csr", dtype="f4", random_state=1)
    pred, grads = scx.ops.translate(q, uq, k, uk, peaks, tau=0.8, min_peaks=5, grad=np.ones((5, 7)))
    want, dq = np.zeros((5, 7)), np.zeros((7, 8))
    for c in range(5):
        row = peaks[c]
        keys = k[row.indices] + row.data[:, None] * uk
        s = sigmoid((q + uq) @ keys.T)
        want[c] = (s > 0.8).sum(1) > 5
        dq += (s * (1 - s)) @ keys
    assert np.array_equal(pred, want) and 0 < pred.mean() < 1
    assert np.allclose(grads.q, dq, rtol=1e-3, atol=1e-4)
    assert np.allclose(grads.uq, dq.sum(0), rtol=1e-3, atol=1e-4)
    assert np.array_equal(scx.ops.translate(q, uq, k, uk, peaks, tau=0.8, min_peaks=5), pred)


def test_attend():
    q, uq, k, uk = tables(6, 20, 8, seed=2)
    genes = sp.random(3, 6, 0.7, format="csr", dtype="f4", random_state=3)
    peaks = sp.random(3, 20, 0.5, format="csr", dtype="f4", random_state=4)
    gene_chrom, peak_chrom = np.arange(6) % 2, np.arange(20) % 2
    found = scx.ops.attend(q, uq, k, uk, genes, peaks, gene_chrom, peak_chrom, top_k=3)
    row_sums = np.zeros(genes.nnz)
    col_sums = np.zeros(peaks.nnz)
    for c in range(3):
        g, p = slice(*genes.indptr[c : c + 2]), slice(*peaks.indptr[c : c + 2])
        gi, pi = genes.indices[g], peaks.indices[p]
        logits = (q[gi] + genes.data[g][:, None] * uq) @ (k[pi] + peaks.data[p][:, None] * uk).T
        same = gene_chrom[gi][:, None] == peak_chrom[pi][None]
        logits = np.where(same, logits, 0).astype("f8")
        for i in range(len(gi)):
            top = np.lexsort((pi, -logits[i]))[:3]
            w = np.exp(sigmoid(logits[i][top]))
            w /= w.sum()
            keep = same[i][top] & (sigmoid(logits[i][top]) > 0.5)
            row_sums[genes.indptr[c] + i] = w[keep].sum()
            np.add.at(col_sums, peaks.indptr[c] + top[keep], w[keep])
    assert np.allclose(found.row_sums[0], row_sums, atol=1e-5)
    assert np.allclose(found.col_sums[0], col_sums, atol=1e-5)
    kept = found.pairs["kept"]
    assert np.isclose(found.pairs["weight"][kept].sum(), row_sums.sum(), atol=1e-4)


def test_shapes_that_do_not_fit():
    q, uq, k, uk = tables(7, 40, 8)
    peaks = sp.random(5, 41, 0.3, format="csr", dtype="f4", random_state=1)
    with pytest.raises(scx.UsageError, match="of 40"):
        scx.ops.translate(q, uq, k, uk, peaks)
    with pytest.raises(scx.UsageError, match="heads 3"):
        scx.ops.translate(q, uq, k, uk, peaks[:, :40], heads=3)
    with pytest.raises(scx.UsageError, match="grad"):
        scx.ops.translate(q, uq, k, uk, peaks[:, :40], grad=np.ones((2, 2)))
