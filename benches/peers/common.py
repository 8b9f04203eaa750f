"""What all methods of this folder share: the cells and their parts, features, metrics, and rows of results.

Needs anndata, scipy, scikit-learn, pandas; igraph for clusters.
"""
import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
import json
import multiprocessing
import pathlib
import random
import resource
import struct
import sys
import time
import traceback
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

warnings.filterwarnings("ignore")
PARTS = ("train", "val", "test")


# Cells -------------------------------------------------------------------------------------------------------------------------

def prepared_parts(folder, samples="default"):
    """Names of the cells of each part, from the folder that `prepare` made: {"train": [...], "val": [...], "test": [...]}.

    Reads the binary sample file (src/dataset/samples.rs tells its form); the cells of a part are those of its samples.
    """
    folder = pathlib.Path(folder)
    cells = pd.read_csv(folder / "cells.tsv", sep="\t", dtype=str, keep_default_na=False).iloc[:, 0].values
    raw = (folder / "samples" / samples).read_bytes()
    magic, version, header, total, n, train, val, test, _ = struct.unpack_from("<8sIIQ4QQ", raw)
    if magic != b"SCXPAIRS" or version != 1 or total != len(raw):
        sys.exit(f"{folder / 'samples' / samples}: not a sample file of version 1")
    words = np.frombuffer(raw, "<u4", 2 * n + train + val + test, header)
    pairs, numbers = words[:2 * n].reshape(2, n), words[2 * n:]
    cut = np.split(numbers, [train, train + val])
    return {part: list(cells[np.unique(pairs[:, at])]) for part, at in zip(PARTS, cut)}


def batch_parts(obs, column, test, seed):
    """Parts where the test part is one batch and a tenth of the other cells, by the seed, is for validation."""
    held = (obs[column].astype(str) == test).values
    rest = np.random.default_rng(seed).permutation(obs.index[~held].values)
    tenth = len(rest) // 10
    return {"train": list(rest[tenth:]), "val": list(rest[:tenth]), "test": list(obs.index[held])}


def counts(a, name):
    """Whole counts: layers/counts, else X."""
    for x in (a.layers.get("counts"), a.X):
        if x is None:
            continue
        x = sp.csr_matrix(x).astype(np.float32)
        x.eliminate_zeros()
        if np.array_equal(x.data, np.round(x.data)) and (x.data > 0).all():
            return x
    sys.exit(f"{name}: neither layers/counts nor X holds whole counts")


class Cells:
    """One data set, in one split.

    C: counts of genes; B: open or not, of peaks (both CSR, cells in the order of the RNA file); L: log1p of counts scaled to the
    median training cell (dense); y: cell types; tr, va, te: numbers of the cells of each part.
    """

    def __init__(self, rna, atac, cell_type, parts=None, batch=None, seed=0):
        r, a = ad.read_h5ad(rna), ad.read_h5ad(atac)
        both = [c for c in r.obs_names if c in set(a.obs_names)]
        r, a = r[both].copy(), a[both].copy()
        parts = prepared_parts(parts) if batch is None else batch_parts(r.obs, *batch, seed)
        number = {c: i for i, c in enumerate(both)}
        self.tr, self.va, self.te = (np.sort([number[c] for c in parts[p]]) for p in PARTS)
        if len(set(self.tr) | set(self.va) | set(self.te)) != sum(len(parts[p]) for p in PARTS):
            sys.exit("a cell is in two parts")
        self.names, self.genes, self.peaks = np.array(both), r.var_names.values, a.var_names.values
        self.C, self.B = counts(r, rna), sp.csr_matrix(a.X).astype(np.float32)
        self.B.eliminate_zeros()
        self.B.data[:] = 1
        self.total = np.asarray(self.C.sum(1)).ravel()
        self.median = np.median(self.total[self.tr])
        scaled = sp.csr_matrix(sp.diags(self.median / np.maximum(self.total, 1)) @ self.C)
        self.L = np.log1p(scaled.toarray()).astype(np.float32)
        self.y = r.obs[cell_type].astype(str).values
        self.seed = seed
        # few cells take fewer components and fewer cells a gene
        self.k = 50 if len(self.tr) >= 2000 else 20
        self.least = 10 if len(self.te) >= 500 else 3

    def z(self, x):
        """Standardised by the training cells, as a column."""
        x = np.asarray(x, np.float64)
        return ((x - x[self.tr].mean()) / x[self.tr].std()).astype(np.float32)[:, None]

    def rna_depth(self):
        """Log genes detected, standardised."""
        return self.z(np.log1p(np.diff(self.C.indptr)))

    def atac_depth(self):
        """Log peaks open, standardised."""
        return self.z(np.log1p(np.diff(self.B.indptr)))

    def tfidf(self):
        tr = self.tr
        idf = np.log1p(len(tr) / (1 + np.asarray(self.B[tr].sum(0)).ravel()))
        share = sp.diags(1 / np.maximum(np.asarray(self.B.sum(1)).ravel(), 1)) @ self.B
        x = sp.csr_matrix(share @ sp.diags(idf))
        x.data = np.log1p(x.data * 1e4)
        return x.astype(np.float32)

    def lsi(self):
        """LSI of the peaks, fitted on training cells, the first component (depth) left out; not standardised."""
        from sklearn.decomposition import TruncatedSVD
        x = self.tfidf()
        z = TruncatedSVD(self.k + 1, random_state=self.seed).fit(x[self.tr]).transform(x)[:, 1:]
        return ((z - z[self.tr].mean(0)) / z[self.tr].std(0).max()).astype(np.float32)

    def pca(self):
        """PCA of standardised log expression, clipped at ±10, fitted on training cells."""
        from sklearn.decomposition import PCA
        tr, sd = self.tr, self.L[self.tr].std(0)
        sd[sd == 0] = 1
        x = np.clip((self.L - self.L[tr].mean(0)) / sd, -10, 10)
        return PCA(self.k, random_state=self.seed).fit(x[tr]).transform(x).astype(np.float32)

    def standard(self, z):
        return ((z - z[self.tr].mean(0)) / z[self.tr].std(0)).astype(np.float32)

    def both(self):
        """PCA of RNA and LSI of ATAC, standardised, each with its depth as the last column."""
        return (np.hstack([self.standard(self.pca()), self.rna_depth()]),
                np.hstack([self.standard(self.lsi()), self.atac_depth()]))


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def cosine(a, b):
    return unit(a) @ unit(b).T


# Metrics -----------------------------------------------------------------------------------------------------------------------

def ranks_of_partners(s):
    """How many score higher than the partner (ties by half), of each row."""
    d = np.diag(s)[:, None]
    return (s > d).sum(1) + 0.5 * ((s == d).sum(1) - 1)


def foscttm(s):
    """Share of cells nearer than the true partner: half from RNA, half from ATAC."""
    return (ranks_of_partners(s).mean() + ranks_of_partners(s.T).mean()) / (2 * (len(s) - 1))


def share_on_partner(s, t):
    """Mean probability on the partner, softmax at temperature 1/t, both ways."""
    out = 0
    for m in (s, s.T):
        p = np.exp(t * (m - m.max(1, keepdims=True)))
        out += np.mean(np.diag(p) / p.sum(1)) / 2
    return out


def match_metrics(s, y, val):
    """s[i, j]: score of the RNA of test cell i with the ATAC of test cell j. val: the same of validation cells, which choose the
    temperature of `share_on_partner`."""
    s, val = np.asarray(s, np.float64), np.asarray(val, np.float64)
    n, d = len(s), np.diag(s)
    ranks = np.concatenate([ranks_of_partners(s), ranks_of_partners(s.T)])
    out = {"foscttm": ranks.mean() / (n - 1), **{f"top{k}": (ranks < k).mean() for k in (1, 5, 10, 50)}}
    spread = val.std() or 1
    grid = [t / spread for t in (0.3, 1, 2, 3, 5, 8, 13, 20, 30)]
    out["share_on_partner"] = share_on_partner(s, max(grid, key=lambda t: share_on_partner(val, t)))
    same, self_ = y[:, None] == y[None, :], np.eye(n, dtype=bool)

    def auroc(mask):
        negatives = np.sort(s[mask & ~self_])
        below, through = np.searchsorted(negatives, d, "left"), np.searchsorted(negatives, d, "right")
        return (below + through).mean() / (2 * len(negatives))

    out.update(auroc=auroc(same | ~same), auroc_same_type=auroc(same), auroc_other_type=auroc(~same))
    out["type_of_top1"] = ((y[s.argmax(1)] == y).mean() + (y[s.argmax(0)] == y).mean()) / 2
    within = [((s[i, c] > d[i]).sum() + 0.5 * (s[i, c] == d[i]).sum()) / len(c)
              for i in range(n) if len(c := np.flatnonzero(same[i] & ~self_[i]))]
    out["foscttm_same_type"] = np.mean(within)
    return out


def correlations(a, b):
    """Pearson of each column; 0 where one does not vary."""
    a, b = a - a.mean(0), b - b.mean(0)
    d = np.sqrt((a ** 2).sum(0) * (b ** 2).sum(0))
    return np.where(d > 1e-9, (a * b).sum(0) / np.maximum(d, 1e-9), 0)


def expression_metrics(p, t, detected, least):
    """p, t: told and true log expression (cells × genes); genes that at least `least` cells have and lack."""
    p, t = np.asarray(p, np.float64), np.asarray(t, np.float64)
    n = detected.sum(0)
    some = (n >= least) & (n <= len(t) - least)
    ranks, on, ones = rankdata(p[:, some], axis=0), detected[:, some], n[some]
    return {
        "rmse": np.sqrt(((p - t) ** 2).mean()),
        "cell_pearson": correlations(p.T, t.T).mean(),
        "gene_pearson": correlations(p[:, some], t[:, some]).mean(),
        "gene_spearman": correlations(ranks, rankdata(t[:, some], axis=0)).mean(),
        "gene_auroc": (((ranks * on).sum(0) - ones * (ones + 1) / 2) / (ones * (len(t) - ones))).mean(),
        "r2": 1 - ((p - t) ** 2).sum() / ((t - t.mean(0)) ** 2).sum(),
        "genes": int(some.sum()),
    }


def clusters(z, wanted, least=10, k=15):
    """Leiden on the graph of shared neighbours, at the resolution that gives `wanted` clusters of at least `least` cells, or
    comes nearest. Returns the clusters and how many there are."""
    import igraph
    from sklearn.neighbors import NearestNeighbors
    n = len(z)
    near = NearestNeighbors(n_neighbors=k + 1).fit(z).kneighbors(return_distance=False)[:, :k]
    m = sp.csr_matrix((np.ones(near.size, np.float32), (np.repeat(np.arange(n), k), near.ravel())), shape=(n, n))
    m = m + sp.eye(n, format="csr")
    shared = (m @ m.T).tocoo()
    keep = (shared.row < shared.col) & (shared.data >= 2)
    weight = shared.data[keep] / (2 * (k + 1) - shared.data[keep])
    graph = igraph.Graph(n=n, edges=np.c_[shared.row[keep], shared.col[keep]], edge_attrs={"w": weight})
    low, high, best = 0.02, 5.0, None
    for _ in range(12):
        resolution = (low * high) ** 0.5
        random.seed(0)
        igraph.set_random_number_generator(random)
        c = np.array(graph.community_leiden(objective_function="modularity", weights="w", resolution=resolution,
                                            n_iterations=3).membership)
        found = int((np.bincount(c) >= least).sum())
        if best is None or abs(found - wanted) < abs(best[1] - wanted):
            best = (c, found)
        if found == wanted:
            break
        low, high = (low, resolution) if found > wanted else (resolution, high)
    return best


def embedding_metrics(cells, z):
    """z: {"joint": all cells × d, "atac": the same of ATAC alone, where there is one}."""
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.neighbors import KNeighborsClassifier
    tr, te, y, out = cells.tr, cells.te, cells.y, {}

    def told(x):
        return (KNeighborsClassifier(15).fit(x[tr], y[tr]).predict(x[te]) == y[te]).mean()

    if "joint" in z:
        joint = np.ascontiguousarray(z["joint"], np.float32)
        used = np.sort(np.concatenate([tr, cells.va, te]))
        least = 10 if len(used) >= 2000 else 5
        types = (pd.Series(y[used]).value_counts() >= least).sum()
        c, found = clusters(joint[used], types, least)
        depth = np.log(np.maximum(cells.total, 1))
        out.update(dim=joint.shape[1], clusters=found, types=int(types), ari=adjusted_rand_score(y[used], c),
                   nmi=normalized_mutual_info_score(y[used], c), knn_accuracy=told(joint),
                   depth_r2=LinearRegression().fit(joint[tr], depth[tr]).score(joint[te], depth[te]))
    if "atac" in z:
        out["transfer_from_atac"] = told(np.ascontiguousarray(z["atac"], np.float32))
    return out


# Rows --------------------------------------------------------------------------------------------------------------------------

def rows_of(cells, result):
    """Metrics of what a method gives, by job. result: any of "scores" (validation and test, cells × cells), "expression" (test
    cells × genes, log), "z" (embeddings of all cells)."""
    te, out = cells.te, {}
    if "scores" in result:
        val, test = result["scores"]
        out["partners"] = match_metrics(test, cells.y[te], val)
    if "expression" in result:
        detected = (cells.C[te].toarray() > 0)
        out["expression"] = expression_metrics(np.maximum(result["expression"], 0), cells.L[te], detected, cells.least)
    if "z" in result:
        out["embeddings"] = embedding_metrics(cells, result["z"])
    return out


def write_rows(path, cells, about, method, result, cpu, peak):
    """Appends a line of JSON for each job that the method serves."""
    with open(path, "a") as f:
        for job, metrics in rows_of(cells, result).items():
            row = {**about, "job": job, "method": method, "cpu_s": round(cpu, 2), "peak_mib": round(peak),
                   **{k: round(float(v), 5) for k, v in metrics.items()}, "chosen": result.get("chosen", {})}
            f.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def done(path, about):
    """Methods that have rows for this data, split and seed."""
    if not os.path.exists(path):
        return set()
    lines = [json.loads(line) for line in open(path)]
    return {r["method"] for r in lines if all(r[k] == v for k, v in about.items())}


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(path, cells, about, method, function):
    """Runs a method in a process of its own, so that its peak memory is its own (the input included), and writes its rows.
    Processor seconds are those of fitting and predicting; reading, imports and metrics are not in them."""
    def work():
        try:
            begun = time.process_time()
            result = function(cells)
            write_rows(path, cells, about, method, result, time.process_time() - begun - result.get("imports", 0), peak_mib())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    p = multiprocessing.get_context("fork").Process(target=work)
    p.start()
    p.join()
    if p.exitcode:
        sys.exit(f"{method} failed")
