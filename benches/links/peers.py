#!/usr/bin/env python3
"""Scores the same gene-peak pairs with what other tools compute, each written anew from its published description.

    peers.py --rna rna.h5ad --atac atac.h5ad --pairs links.tsv [more.tsv ...] --cell-type COLUMN [--replicates COLUMN]
             [--ours [NAME=]FOLDER ...] [--cells FILE] [--bootstraps 25000] [--only METHOD ...] [--tested METHOD ...] --out scores.tsv

The first table of pairs (chrom, start, end of the peak, gene, peak, distance) says which are scored; its further numeric
columns, and those of the other tables, are carried along as `ours:…`. --ours takes log_odds and the z of links.tsv in a folder
that `discover` wrote, and for pairs of its links-untested.tsv the prior's log odds, without z. Writes scores.tsv (a row a pair) and scores.cost.tsv (a
row a method: CPU seconds, peak memory), and prints the latter in markdown. A larger score means a link; a pair
whose gene or peak does not vary, of which most methods can say nothing, has 0. What each leaves out of the tool it is named after:
docs/results.md. Needs anndata, scipy, pandas.
"""
import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
import argparse
import copy
import multiprocessing
import pathlib
import resource
import sys
import time

import anndata as ad
import numpy as np
import pandas as pd
import scipy.linalg
import scipy.sparse as sp
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from scipy.stats import norm, rankdata

KEYS = ["chrom", "start", "end", "gene", "peak", "distance", "n_cells"]
NOT_SCORES = {"tss", "pvalue", "qvalue", "p_value", "q_value", "error", "mean", "cell_type"}


# Input -------------------------------------------------------------------------------------------------------------------------

def counts(a, name):
    """Raw counts: the layer of that name, or X, or raw.X, whichever is whole numbers first."""
    for x in (a.layers.get("counts"), a.X, a.raw.X if a.raw is not None and a.raw.shape == a.shape else None):
        if x is None:
            continue
        x = sp.csr_matrix(x, dtype=np.float64)
        x.eliminate_zeros()
        if np.array_equal(x.data, np.round(x.data)) and (x.data > 0).all():
            return x
    sys.exit(f"{name}: neither layers/counts nor X nor raw.X holds whole counts")


def read_pairs(paths):
    first = pd.read_csv(paths[0], sep="\t")
    missing = [c for c in KEYS[:-1] if c not in first]
    if missing:
        sys.exit(f"{paths[0]}: no column {', '.join(missing)}")
    tables = [first] + [pd.read_csv(p, sep="\t") for p in paths[1:]]
    pairs = first.drop_duplicates(["gene", "peak"])[KEYS[:-1]].reset_index(drop=True)
    for path, t in zip(paths, tables):
        t = t.drop_duplicates(["gene", "peak"])
        extra = [c for c in t.select_dtypes("number") if c not in KEYS and c not in NOT_SCORES]
        names = {c: f"ours:{c}" if f"ours:{c}" not in pairs else f"ours:{pathlib.Path(path).stem}:{c}" for c in extra}
        found = pairs[["gene", "peak"]].merge(t[["gene", "peak"]], on=["gene", "peak"]).shape[0]
        if found < len(pairs):
            print(f"{path}: {found} of {len(pairs)} pairs; the others are NaN", file=sys.stderr)
        pairs = pairs.merge(t[["gene", "peak"] + extra].rename(columns=names), on=["gene", "peak"], how="left")
    return pairs


def discovered(folder, name):
    """Our scores of the pairs tested, and what distance alone says of those that no cell has both of."""
    f = pathlib.Path(folder)
    read = lambda stem: pd.read_csv(next(p for p in (f / f"{stem}.tsv", f / f"{stem}.tsv.gz") if p.exists()), sep="\t")
    t = pd.concat([read("links"), read("links-untested").rename(columns={"prior_log_odds": "log_odds"})])
    t = t[["gene", "peak", "log_odds", "zscore", "z_between", "z_within"]].drop_duplicates(["gene", "peak"])
    return t.rename(columns={c: f"{name}:{c}" for c in t.columns[2:]})


class Data:
    """Counts of the cells in both files, and pairs by index, genes in the order of their place."""

    def __init__(self, o):
        R, A = ad.read_h5ad(o.rna), ad.read_h5ad(o.atac)
        cells = R.obs_names[R.obs_names.isin(A.obs_names)]
        if o.cells:
            kept = set(pathlib.Path(o.cells).read_text().split())
            cells = cells[[c in kept for c in cells]]
        R, A = R[cells], A[cells]
        column = lambda c: (R.obs if c in R.obs else A.obs)[c].astype(str).values
        self.rna, self.atac = counts(R, o.rna), counts(A, o.atac)
        depth = np.asarray(self.rna.sum(1)).ravel() * np.asarray(self.atac.sum(1)).ravel()
        known = depth > 0
        if not known.all():
            print(f"{(~known).sum()} cells without a count of RNA or ATAC are left out", file=sys.stderr)
        self.rna, self.atac = self.rna[known], self.atac[known]
        self.kind = pd.factorize(column(o.cell_type)[known])[0]
        self.replicate = pd.factorize(column(o.replicates)[known])[0] if o.replicates else np.zeros(known.sum(), int)
        self.open = self.atac.copy()
        self.open.data[:] = 1
        self.cells, self.bootstraps = self.atac.shape[0], o.bootstraps
        pairs = read_pairs(o.pairs)
        for named in o.ours or []:
            name, folder = named.split("=", 1) if "=" in named else ("ours", named)
            pairs = pairs.merge(discovered(folder, name), on=["gene", "peak"], how="left")
            print(f"{name}: {pairs[f'{name}:log_odds'].notna().sum()} of {len(pairs)} pairs", file=sys.stderr)
        gene, peak = ({n: i for i, n in enumerate(x.var_names)} for x in (R, A))
        found = pairs.gene.isin(gene) & pairs.peak.isin(peak)
        if not found.all():
            print(f"{(~found).sum()} pairs of unknown genes or peaks are left out", file=sys.stderr)
        self.pairs = pairs[found].sort_values(["chrom", "start"], kind="stable").reset_index(drop=True)
        self.g, self.p = self.pairs.gene.map(gene).values.astype(int), self.pairs.peak.map(peak).values.astype(int)
        name = pd.Series(A.var_names.astype(str)).str.extract(r"^(.+?)[:_-](\d+)[_-](\d+)$")
        self.chrom = name[0].fillna("?").values
        self.chrom[self.p] = self.pairs.chrom.astype(str).values
        self.width = (name[2].astype(float) - name[1].astype(float)).values
        self.width[self.p] = (self.pairs.end - self.pairs.start).values
        gc = [c for c in A.var if c.lower().replace("_", ".") in ("gc", "gc.percent", "gc.content")]
        self.gc = A.var[gc[0]].values.astype(float) if gc else None
        self.order = pd.unique(self.g)
        self.both = self.pick((self.rna > 0).astype(float), self.open)

    def only(self, rows):
        """The same cells with these pairs."""
        d = copy.copy(self)
        d.pairs, d.g, d.p, d.both = self.pairs.iloc[rows].reset_index(drop=True), self.g[rows], self.p[rows], self.both[rows]
        d.order = pd.unique(d.g)
        return d

    def blocks(self, genes=48):
        """Some genes at a time with their pairs: genes, peaks, rows of pairs, and gene and peak of each within the block."""
        rank = np.empty(self.order.max() + 1, int)
        rank[self.order] = np.arange(len(self.order))
        by = np.argsort(rank[self.g], kind="stable")
        at = np.searchsorted(rank[self.g][by], np.arange(0, len(self.order) + genes, genes))
        for i, (a, b) in enumerate(zip(at, at[1:])):
            if a < b:
                rows = by[a:b]
                peaks, p = np.unique(self.p[rows], return_inverse=True)
                yield self.order[i * genes:(i + 1) * genes], peaks, rows, rank[self.g[rows]] - i * genes, p

    def pick(self, x, y):
        """Σ over cells of x y, a pair each."""
        x, y, out = x.tocsc(), y.tocsc(), np.empty(len(self.pairs))
        for genes, peaks, rows, g, p in self.blocks():
            out[rows] = (x[:, genes].T @ y[:, peaks]).toarray()[g, p]
        return out

    def log_cp10k(self):
        x = (sp.diags(1e4 / np.asarray(self.rna.sum(1)).ravel()) @ self.rna).tocsr()
        x.data = np.log1p(x.data)
        return x

    def scaled(self):
        """Open or not, over the cell's number of open peaks, relative to the mean cell."""
        depth = np.asarray(self.open.sum(1)).ravel()
        return (sp.diags(depth.mean() / depth) @ self.open).tocsr()

    def tf_idf(self):
        """log(1 + 10⁴ share of the cell's counts × cells a count of the peak)."""
        total = np.maximum(np.asarray(self.atac.sum(0)).ravel(), 1)
        x = (sp.diags(1 / np.asarray(self.atac.sum(1)).ravel()) @ self.atac @ sp.diags(self.cells / total)).tocsr()
        x.data = np.log1p(1e4 * x.data)
        return x


def moments(x):
    n = x.shape[0]
    mean = np.asarray(x.sum(0)).ravel() / n
    return mean, np.sqrt(np.maximum(np.asarray(x.multiply(x).sum(0)).ravel() / n - mean ** 2, 0))


def ratio(a, b):
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 1e-12)


def pearson(d, x, y):
    """Correlation of each pair over the rows of two sparse matrices."""
    (mx, sx), (my, sy) = moments(x), moments(y)
    return ratio(d.pick(x, y) / x.shape[0] - mx[d.g] * my[d.p], sx[d.g] * sy[d.p])


def dense_pearson(x, y, g, p, weight=None):
    """The same for few rows, with weights."""
    w = np.ones(len(x)) if weight is None else weight
    x, y = x - np.average(x, 0, w), y - np.average(y, 0, w)
    x, y = x * np.sqrt(w)[:, None], y * np.sqrt(w)[:, None]
    return ratio(np.einsum("ij,ij->j", x[:, g], y[:, p]), np.linalg.norm(x, axis=0)[g] * np.linalg.norm(y, axis=0)[p])


# Methods -----------------------------------------------------------------------------------------------------------------------

def plain(d):
    return {"pearson": pearson(d, d.log_cp10k(), d.scaled())}


def ranks(x):
    """Ranks less the rank of zero, so that they stay sparse; a correlation does not see the shift."""
    x = x.tocsc(copy=True)
    for a, b in zip(x.indptr, x.indptr[1:]):
        if a < b:
            zeros = x.shape[0] - (b - a)
            x.data[a:b] = zeros + rankdata(x.data[a:b].round(10)) - (zeros + 1) / 2
    return x


def spearman(d):
    return {"spearman": pearson(d, ranks(d.log_cp10k()), ranks(d.scaled()))}


def distance(d):
    return {"nearness": -d.pairs.distance.abs().values.astype(float)}


def signac(d, background=200):
    """z of a pair's correlation among the gene's with peaks of other chromosomes alike in accessibility, width (and GC)."""
    x, used = d.log_cp10k(), np.unique(d.p)
    features = [np.log1p(np.asarray(d.atac.sum(0)).ravel()), np.log(np.maximum(np.nan_to_num(d.width, nan=1), 1))]
    features = np.stack(features + ([d.gc] if d.gc is not None else []), 1)
    features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    like = np.zeros((len(used), background), np.int32)
    for chrom in np.unique(d.chrom[used]):
        at, others = np.flatnonzero(d.chrom[used] == chrom), np.flatnonzero((d.chrom != chrom) & (d.chrom != "?"))
        if len(others) < background:
            raise ValueError(f"fewer than {background} peaks outside of {chrom}")
        like[at] = others[cKDTree(features[others]).query(features[used[at]], background)[1]]
    where = np.searchsorted(used, d.p)
    (mx, sx), x, out = moments(x), x.tocsc(), {}
    for name, y in (("signac", d.atac), ("signac_tfidf", d.tf_idf())):
        my, sy = moments(y)
        z = np.empty(len(d.pairs))
        for genes, _, rows, g, _ in d.blocks():
            r = (x[:, genes].T.tocsr() @ y).toarray() / d.cells - np.outer(mx[genes], my)
            r = np.nan_to_num(ratio(r, np.outer(sx[genes], sy)))
            null = r[g[:, None], like[where[rows]]]
            z[rows] = ratio(r[g, d.p[rows]] - null.mean(1), null.std(1, ddof=1))
        out[name] = z
    return out


def poisson_null(z, y):
    """Poisson regressions of the columns of y on the covariates z: what each expects of every cell."""
    b = np.zeros((z.shape[1], y.shape[1]))
    b[0] = np.log(np.maximum(np.asarray(y.mean(0)).ravel(), 1e-8))
    target, square = (y.T @ z).T, (z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    for _ in range(25):
        mu = np.exp(np.clip(z @ b, -30, 15))
        h = (square.T @ mu).T.reshape(-1, z.shape[1], z.shape[1]) + 1e-9 * np.eye(z.shape[1])
        step = np.linalg.solve(h, (target - z.T @ mu).T[:, :, None])[:, :, 0].T
        step /= np.maximum(1, np.abs(step).max(0) / 2)
        b += step
        if np.abs(step).max() < 1e-8:
            break
    return np.exp(np.clip(z @ b, -30, 15))


def scent(d, seed=0):
    """Poisson regression of counts on open or not beside log depths; p of the slope by a bootstrap of cells, more where small.

    The covariates' coefficients are fitted once a gene, without the peak; then the slope has a closed form, in every bootstrap:
    log of observed over expected where open, less the same where closed, half a count added to each. A pair that no cell has
    both of is alike in every bootstrap, which would make it certain: there p is of the Poisson count of none.
    """
    rounds = [(p, n) for p, n in ((0, 100), (0.1, 500), (0.05, 2500), (0.01, 25000)) if n < d.bootstraps] or [(0, d.bootstraps)]
    if rounds[-1][1] < d.bootstraps:
        rounds.append(((0, 0.1, 0.05, 0.01, 0.001)[len(rounds)], d.bootstraps))
    z = np.stack([np.log(np.asarray(m.sum(1)).ravel()) for m in (d.rna, d.atac)], 1)
    z = np.column_stack([np.ones(d.cells), (z - z.mean(0)) / np.maximum(z.std(0), 1e-9)])
    rna, peaks_open, rng = d.rna.tocsc(), d.open.tocsc(), np.random.default_rng(seed)
    seen, expected, order = [], [], []
    total = np.asarray(rna.sum(0)).ravel()
    for genes, _, rows, g, _ in d.blocks():
        mu = poisson_null(z, rna[:, genes])
        x = peaks_open[:, d.p[rows]]
        at = np.repeat(g, np.diff(x.indptr))
        # in float32: bootstraps are limited by memory traffic
        m = sp.csc_matrix((mu[x.indices, at].astype(np.float32), x.indices, x.indptr), x.shape)
        y = x.multiply(rna[:, d.g[rows]]).astype(np.float32).tocsc()
        y.eliminate_zeros()
        seen.append(sp.csr_matrix(y.T)), expected.append(sp.csr_matrix(m.T)), order.append(rows)
    order = np.concatenate(order)
    seen, expected = sp.vstack(seen, "csr"), sp.vstack(expected, "csr")
    gene = d.g[order]

    def slopes(y1, m1, y):
        # The expectation over all cells is the observation, for the null model has an intercept; so it is in a resample up to
        # its noise, which is far below that of the open cells.
        return np.log((y1 + 0.5) / (m1 + 0.5)) - np.log((np.maximum(y - y1, 0) + 0.5) / (np.maximum(y - m1, 0) + 0.5))

    fit = slopes(np.asarray(seen.sum(1)).ravel(), np.asarray(expected.sum(1)).ravel(), total[gene])
    below, s1, s2, done, p_value = np.zeros((5, len(fit)))
    never = np.diff(seen.indptr) == 0
    left = np.flatnonzero(~never)
    for limit, wanted in rounds:
        if limit:
            left = left[p_value[left] < limit]
        so_far = int(done[left].max()) if len(left) else wanted
        while so_far < wanted:
            size = min(250, wanted - so_far)
            w = np.stack([np.bincount(rng.integers(0, d.cells, d.cells), minlength=d.cells) for _ in range(size)], 1)
            w = w.astype(np.float32)
            y_all = rna.T @ w
            for a in range(0, len(left), 4000):
                i = left[a:a + 4000]
                b = slopes(seen[i] @ w, expected[i] @ w, y_all[gene[i]])
                # basic bootstrap: 2 fit - b is where the parameter may lie
                other = 2 * fit[i][:, None] - b
                below[i] += (other < 0).sum(1) + 0.5 * (other == 0).sum(1)
                s1[i] += b.sum(1)
                s2[i] += (b * b).sum(1)
            done[left] += size
            so_far += size
        p_value[left] = np.minimum(1, 2 * (np.minimum(below[left], done[left] - below[left]) + 1) / (done[left] + 2))
    none = np.asarray(expected[never].sum(1)).ravel()
    p_value[never] = np.minimum(1, 2 * np.exp(-none.astype(float)))
    drawn = np.maximum(done, 1)
    z = ratio(fit, np.sqrt(np.maximum(s2 / drawn - (s1 / drawn) ** 2, 0)))
    z[never] = -np.sqrt(none)
    capped = done == rounds[-1][1]
    print(f"scent: pairs by bootstraps: {', '.join(f'{n}: {(done == n).sum()}' for n in [0] + [n for _, n in rounds])}; at the "
          f"smallest p that {rounds[-1][1]} can give (capped): {(capped & (p_value <= 2.01 / (rounds[-1][1] + 2))).sum()}",
          file=sys.stderr)
    out = {"scent": np.empty(len(fit)), "scent_z": np.empty(len(fit))}
    out["scent"][order] = -np.sign(fit) * np.log10(p_value)
    out["scent_z"][order] = z
    return out


def scarlink(d, folds=5, grid=(0.01, 0.03, 0.1, 0.3, 1, 3, 10), seed=0):
    """Ridge of each gene on all its peaks, standardised, penalty by cross-validation: coefficients, of either sign and ≥ 0."""
    fold = np.random.default_rng(seed).integers(0, folds, d.cells)
    x, y = d.log_cp10k(), d.scaled()
    x, y = ([m[fold == k].tocsc() for k in range(folds)] for m in (x, y))
    by = pd.Series(np.arange(len(d.g))).groupby(d.g).indices
    out = {"ridge": np.full(len(d.g), np.nan), "scarlink": np.full(len(d.g), np.nan)}

    def centred(m):
        """Moments of (1, peaks, gene) about the means of these cells, as correlations, and the map that gives them."""
        mean = m[0] / m[0, 0]
        t = np.eye(len(m))
        t[1:, 0] = -mean[1:]
        sd = np.sqrt(np.maximum(np.diag(m) / m[0, 0] - mean ** 2, 0))
        t[1:] /= np.where(sd[1:] > 1e-9, sd[1:], np.inf)[:, None]
        return t @ m @ t.T / m[0, 0], t

    def fits(c):
        values, vectors = np.linalg.eigh(c[1:-1, 1:-1])
        toward = vectors.T @ c[1:-1, -1]
        free = [vectors @ (toward / (np.maximum(values, 0) + l)) for l in grid]
        bound = []
        for l in grid:
            root = np.linalg.cholesky(c[1:-1, 1:-1] + l * np.eye(len(values)))
            bound.append(nnls(root.T, scipy.linalg.solve_triangular(root, c[1:-1, -1], lower=True))[0])
        return np.array([free, bound])

    for gene, rows in by.items():
        m = []
        for k in range(folds):
            a = sp.hstack([sp.csc_matrix(np.ones((x[k].shape[0], 1))), y[k][:, d.p[rows]], x[k][:, [gene]]], "csc")
            m.append((a.T @ a).toarray())
        whole, error = sum(m), np.zeros((2, len(grid)))
        for k in range(folds):
            c, t = centred(whole - m[k])
            test = t @ m[k] @ t.T
            b = np.concatenate([-fits(c), np.ones((2, len(grid), 1))], 2)
            error += np.einsum("rli,ij,rlj->rl", b, test[1:, 1:], b)
        b = fits(centred(whole)[0])
        for r, name in enumerate(out):
            out[name][rows] = b[r, error[r].argmin()]
    return out


def scmultimap(d, rounds=5, least=100):
    """Counts as Poisson draws of latent levels times depth: covariance of the levels by weighted moments; z under none.

    Over all cells, and within cell types of so many cells, summed.
    """
    def marginal(x, s):
        """Means and variances of levels by reweighted least squares, and with them weights: s (x - s μ) / V and s² / V."""
        s = s[:, None]
        mu = (s * x).sum(0) / (s * s).sum()
        var = np.maximum((s ** 2 * ((x - s * mu) ** 2 - s * mu)).sum(0) / (s ** 4).sum(), 0)
        for _ in range(rounds):
            w = 1 / np.maximum(s * mu + s * s * var, 1e-12)
            mu = (w * s * x).sum(0) / (w * s * s).sum(0)
            h = w * w
            var = np.maximum((h * s ** 2 * ((x - s * mu) ** 2 - s * mu)).sum(0) / (h * s ** 4).sum(0), 0)
        w = np.where(mu > 0, 1 / np.maximum(s * mu + s * s * var, 1e-12), 0)
        return s * (x - s * mu) * w, s * s * w

    s, r = (np.asarray(m.sum(1)).ravel() for m in (d.rna, d.atac))
    s, r, rna, atac = s / s.mean(), r / r.mean(), d.rna.tocsc(), d.atac.tocsc()
    many = [np.flatnonzero(d.kind == k) for k in np.unique(d.kind)]
    ways = {"scmultimap": [np.arange(d.cells)], "scmultimap_types": [c for c in many if len(c) >= least]}
    out = {name: np.full(len(d.pairs), np.nan) for name, of in ways.items() if of}
    for genes, peaks, rows, g, p in d.blocks(24):
        x, y = rna[:, genes].toarray(), atac[:, peaks].toarray()
        for name in out:
            top, variance = 0, 0
            for cells in ways[name]:
                (a, va), (b, vb) = marginal(x[cells], s[cells]), marginal(y[cells], r[cells])
                top, variance = top + a.T @ b, variance + va.T @ vb
            out[name][rows] = ratio(top[g, p], np.sqrt(variance[g, p]))
    return out


def groups(labels):
    return sp.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))


def pseudobulk(d, least=15):
    """Correlation over cell type × replicate of so many cells: of log CPM, and of means of cells weighted by their number."""
    label = pd.factorize(pd.Series(d.kind).astype(str) + "|" + pd.Series(d.replicate).astype(str))[0]
    m = groups(label)
    n = np.asarray(m.sum(1)).ravel()
    m, n = m[n >= least], n[n >= least]
    if m.shape[0] < 3:
        raise ValueError(f"fewer than three pseudobulks of {least} cells")
    cpm = lambda x: np.log2(1 + 1e6 * x / x.sum(1, keepdims=True))
    print(f"pseudobulk: {m.shape[0]} of {label.max() + 1} groups have {least} cells", file=sys.stderr)
    x, y = ((m @ v).toarray() / n[:, None] for v in (d.log_cp10k(), d.scaled()))
    return {"pseudobulk": dense_pearson(cpm((m @ d.rna).toarray()), cpm((m @ d.atac).toarray()), d.g, d.p),
            "pseudobulk_means": dense_pearson(x, y, d.g, d.p, n)}


def type_means(d):
    """Correlation of means of cell types, weighted by cells, and not."""
    m = groups(d.kind)
    n = np.asarray(m.sum(1)).ravel()
    x, y = ((m @ v).toarray() / n[:, None] for v in (d.log_cp10k(), d.scaled()))
    return {"type_means": dense_pearson(x, y, d.g, d.p, n), "type_means_unweighted": dense_pearson(x, y, d.g, d.p)}


def falling(value, weight):
    """The closest sequence that only falls (pool adjacent violators)."""
    stack = []
    for v, w in zip(value, weight):
        stack.append([v, w, 1])
        while len(stack) > 1 and stack[-2][0] < stack[-1][0]:
            (v2, w2, n2), (v1, w1, n1) = stack.pop(), stack.pop()
            stack.append([(v1 * w1 + v2 * w2) / (w1 + w2), w1 + w2, n1 + n2])
    return np.repeat([s[0] for s in stack], [s[2] for s in stack])


def sketch(d, seed=0):
    """All cells and between types, each against trans pairs of like accessibility; a mixture whose share falls with distance."""
    x, y, rng = d.log_cp10k(), d.scaled(), np.random.default_rng(seed)
    used, p = np.unique(d.p, return_inverse=True)
    stratum = pd.qcut(moments(y[:, used])[0], 20, labels=False, duplicates="drop")
    trans = p.copy()
    for k in np.unique(stratum):
        at = np.flatnonzero(stratum[p] == k)
        trans[at] = rng.choice(np.flatnonzero(stratum == k), len(at))
    trans = used[trans]
    other = d.chrom[trans] != d.chrom[d.p]
    (mx, sx), (my, sy), xc, r, r_trans = moments(x), moments(y), x.tocsc(), np.empty(len(p)), np.empty(len(p))
    for genes, _, rows, g, _ in d.blocks():
        c = (xc[:, genes].T.tocsr() @ y).toarray() / d.cells - np.outer(mx[genes], my)
        c = np.nan_to_num(ratio(c, np.outer(sx[genes], sy)))
        r[rows], r_trans[rows] = c[g, d.p[rows]], c[g, trans[rows]]
    m = groups(d.kind)
    n = np.asarray(m.sum(1)).ravel()
    tx, ty = ((m @ v).toarray() / n[:, None] for v in (x, y))

    def z(cis, null):
        null = np.sort(np.nan_to_num(null)[other])
        return norm.ppf((np.searchsorted(null, np.nan_to_num(cis)) + 0.5) / (len(null) + 1))

    z_all = z(r, r_trans)
    z_between = z(dense_pearson(tx, ty, d.g, d.p, n), dense_pearson(tx, ty, d.g, trans, n))
    score = (z_all + z_between) / np.sqrt(2)
    bins = np.digitize(d.pairs.distance.abs(), [1e3, 5e3, 2e4, 5e4, 1e5, 2e5, 3.5e5])
    count = np.bincount(bins, minlength=8)
    share, mu, s = np.full(8, 0.05), 1.5, 1.0
    for _ in range(300):
        odds = np.exp(score ** 2 / 2 - (score - mu) ** 2 / (2 * s * s)) / s
        q = share[bins] * odds / (share[bins] * odds + 1 - share[bins])
        here = count > 0
        share[here] = falling(np.bincount(bins, q, minlength=8)[here] / count[here], count[here]).clip(1e-4, 0.95)
        mu = max(0.3, (q * score).sum() / q.sum())
        s = max(1.0, np.sqrt((q * (score - mu) ** 2).sum() / q.sum()))
    log_odds = np.log(share[bins] / (1 - share[bins])) + np.log(odds)
    return {"sketch": log_odds, "sketch_z": score, "sketch_z_all": z_all, "sketch_z_between": z_between}


METHODS = [distance, plain, spearman, type_means, pseudobulk, signac, scmultimap, scent, scarlink, sketch]


# Running -----------------------------------------------------------------------------------------------------------------------

def child(method, d, pipe):
    before, began = time.process_time(), time.time()
    try:
        scores, fault = method(d), ""
    except ValueError as e:
        scores, fault = {}, str(e)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((scores, fault, time.process_time() - before, time.time() - began, peak))


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    o.add_argument("--rna", required=True)
    o.add_argument("--atac", required=True)
    o.add_argument("--pairs", required=True, nargs="+")
    o.add_argument("--cell-type", required=True)
    o.add_argument("--replicates")
    o.add_argument("--cells", help="barcodes of the cells to use, one a line")
    o.add_argument("--bootstraps", type=int, default=25_000, help="of scent, at most for a pair [default: 25000]")
    o.add_argument("--only", nargs="+", choices=[m.__name__ for m in METHODS])
    o.add_argument("--tested", nargs="+", default=[], help="methods that score only pairs that a cell has both of; the others are unknown to them")
    o.add_argument("--ours", nargs="+", metavar="[NAME=]FOLDER", help="folders of `discover`")
    o.add_argument("--out", required=True)
    o = o.parse_args()
    d = Data(o)
    base = float(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmRSS"))) / 1024
    print(f"{len(d.pairs)} pairs, {d.cells} cells; the input takes {base:.0f} MiB", file=sys.stderr)
    table, cost, fork = d.pairs.assign(n_cells=d.both.round().astype(int)), [], multiprocessing.get_context("fork")
    table = table[KEYS + [c for c in table if c not in KEYS]]
    # each in a process of its own, one after another: its peak of memory is its own, and includes the input
    for method in METHODS:
        if o.only and method.__name__ not in o.only:
            continue
        here, there = fork.Pipe(False)
        rows = np.flatnonzero(d.both > 0) if method.__name__ in o.tested else np.arange(len(d.pairs))
        process = fork.Process(target=child, args=(method, d.only(rows), there))
        process.start()
        there.close()
        try:
            scores, fault, cpu, wall, peak = here.recv()
        except EOFError:
            sys.exit(f"{method.__name__} ended without a result")
        process.join()
        for name, s in scores.items():
            table[name] = np.nan
            table.loc[rows, name] = np.nan_to_num(s, nan=0.0)
        cost.append((method.__name__, ", ".join(scores) or f"none: {fault}", round(cpu, 1), round(wall, 1), round(peak)))
        print(f"{method.__name__}: {cpu:.1f} s, {peak:.0f} MiB {fault}", file=sys.stderr)
    table.to_csv(o.out, sep="\t", index=False, float_format="%.6g")
    columns = ["method", "scores", "CPU s", "wall s", "peak MiB"]
    pd.DataFrame(cost, columns=columns).to_csv(pathlib.Path(o.out).with_suffix(".cost.tsv"), sep="\t", index=False)
    print(f"{len(table)} pairs, {d.cells} cells; peak MiB includes the input's {base:.0f}\n")
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in cost:
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
