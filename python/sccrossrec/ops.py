"""Ops of the model on numpy: `translate` forward and backward, `attend` forward. ``docs/model.md`` has the mathematics.

The others are reached by training alone: `cis` needs the graph of a model, and the rest numpy has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _native
from ._errors import typed


class Attended(NamedTuple):
    """What `attend` found."""

    #: ``[heads, nnz of genes]``: the attention that each gene entry gives.
    row_sums: np.ndarray
    #: ``[heads, nnz of peaks]``: the attention that each peak entry gets.
    col_sums: np.ndarray
    #: A pair a line: ``sample``, ``head``, ``gene``, ``peak``, ``weight``, ``score``, ``kept``.
    pairs: dict[str, np.ndarray]


class Gradients(NamedTuple):
    """Of `translate`, in the shapes of what was given."""

    q: np.ndarray
    uq: np.ndarray
    k: np.ndarray
    uk: np.ndarray


def _f32(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x, dtype=np.float32)


def _csr(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import scipy.sparse as sp

    x = sp.csr_matrix(x)
    return x.indptr.astype(np.int64), x.indices.astype(np.int64), _f32(x.data)


def translate(
    q: Any, uq: Any, k: Any, uk: Any, peaks: Any, *, heads: int = 1, tau: float = 0.5, min_peaks: int = 1, grad: Any = None
) -> Any:
    """Which genes are on, of the peaks of cells: more than ``min_peaks`` of them with ``sigmoid(q·k)`` above ``tau``.

    Parameters
    ----------
    q, uq
        Queries ``[genes, H]``, and what a value of 1 adds, ``[H]``: a gene has the query ``q + uq``.
    k, uk
        Keys ``[peaks, H]`` and ``[H]``: an entry of value v has the key ``k + v uk``.
    peaks
        CSR ``[cells, peaks]``.
    grad
        Gradient of the result; then the straight-through gradients come as well.

    Returns
    -------
    ``[cells × heads, genes]`` of 0 and 1, row ``cell × heads + head``; with ``grad`` a pair of this and `Gradients`.
    """
    queries, keys = (_f32(q), _f32(uq)), (_f32(k), _f32(uk))
    with typed():
        found = _native.translate(queries, keys, _csr(peaks), (heads, tau, min_peaks), None if grad is None else _f32(grad))
    return found if grad is None else (found[0], Gradients(*found[1:]))


def attend(
    q: Any,
    uq: Any,
    k: Any,
    uk: Any,
    genes: Any,
    peaks: Any,
    gene_chrom: Any,
    peak_chrom: Any,
    *,
    heads: int = 1,
    top_k: int = 10,
    tau: float = 0.5,
    unknown: int | None = None,
) -> Attended:
    """Masked top-k attention of the genes of each cell on its peaks of the same chromosome.

    Parameters
    ----------
    q, uq, k, uk
        As of `translate`.
    genes, peaks
        CSR ``[cells, genes]`` and ``[cells, peaks]``.
    gene_chrom, peak_chrom
        ``[genes]`` and ``[peaks]``: the number of the chromosome of each.
    top_k
        Places of a gene. Masked pairs fill those that are left.
    tau
        Scores above it pass.
    unknown
        The chromosome that matches nothing.
    """
    queries, keys = (_f32(q), _f32(uq)), (_f32(k), _f32(uk))
    places = [int(c) for c in gene_chrom], [int(c) for c in peak_chrom]
    with typed():
        found = _native.attend(queries, keys, (_csr(genes), _csr(peaks)), places, (heads, top_k, tau, unknown))
    rows, columns, pairs = found
    names = ("sample", "head", "gene", "peak", "weight", "score", "kept")
    return Attended(rows, columns, dict(zip(names, pairs)))
