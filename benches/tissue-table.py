#!/usr/bin/env python3
"""How tissue-like paired data are: one table, a column a data set, of what real and simulated data have to have in common.

    python3 benches/tissue-table.py [NAME=FOLDER …] [--difficulty NAME …] [--program sccrossrec] [--cells 10000] [--seed 906]
                                    [--out FOLDER] [--gtf FILE] [--types COLUMN] [--simulate FLAG …]

A FOLDER holds rna.h5ad and atac.h5ad, paired, with `cell_type` in obs, counts in X or layers/counts, and the places of the genes
in var (`chrom`, `tss`), in genes.gtf[.gz] beside them or in --gtf (give more with commas: each set takes the one that knows most of
its genes). --difficulty simulates (`simulate --difficulty NAME`) into --out first, where that is not there yet. Needs anndata, scipy and scikit-learn:
`python3 -m venv venv && venv/bin/pip install anndata scipy scikit-learn`.

Genes are log(1 + counts per 10,000), peaks are scaled to the median depth. What is between types: 1 - (within / (N - T)) / (all /
(N - 1)), so that 0 is what chance gives. Pseudobulk: the cells of a type in random groups of 50. "Between types": weighted by
cells, over the means of types.
"""
import argparse
import gzip
import re
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

BINS = [(0, 2e3), (2e3, 1e4), (1e4, 5e4), (5e4, 2e5), (2e5, 5e5)]
GROUP = 50
FEWEST = 20  # cells with a gene or peak, for it to count in r and shares


def counts(path):
    a = anndata.read_h5ad(path)
    x = a.layers["counts"] if "counts" in a.layers else a.X
    return a, sp.csr_matrix(x, dtype=np.float64)


def gtf_places(path):
    """Chromosome and TSS by name and by id."""
    places = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        for line in lines:
            f = line.rstrip("\n").split("\t")
            if line.startswith("#") or len(f) < 9 or f[2] != "gene":
                continue
            tss = int(f[3]) - 1 if f[6] == "+" else int(f[4]) - 1
            for key in ("gene_id", "gene_name"):
                found = re.search(key + r' "([^"]+)"', f[8])
                if found:
                    places.setdefault(found[1].split(".")[0] if key == "gene_id" else found[1], (f[0], tss))
    return places


def gene_places(var, folder, gtf):
    if "tss" in var.columns:
        return list(zip(var["chrom"].astype(str), var["tss"].astype(float)))
    files = [p for p in (folder / "genes.gtf", folder / "genes.gtf.gz") if p.exists()] + [Path(p) for p in gtf.split(",") if p]
    if not files:
        sys.exit(f"tissue-table: no places of genes for {folder}; give --gtf")
    ids = var["gene_ids"].astype(str) if "gene_ids" in var.columns else var.index
    nowhere = ("", np.nan)
    found = []
    for known in map(gtf_places, files):
        found.append([known.get(i.split(".")[0], known.get(n, nowhere)) for n, i in zip(var.index, ids)])
    return max(found, key=lambda places: sum(p is not nowhere for p in places))


def between(x, kind):
    """Share of the variance of each column between kinds, 0 on average where there is nothing."""
    n, t = len(kind), kind.max() + 1
    onehot = sp.csr_matrix((np.ones(n), (kind, np.arange(n))), shape=(t, n))
    size = np.asarray(onehot.sum(1)).ravel()
    means = np.asarray((onehot @ x).todense() if sp.issparse(x) else onehot @ x) / size[:, None]
    square = np.asarray(x.multiply(x).sum(0)).ravel() if sp.issparse(x) else (x * x).sum(0)
    all_mean = size @ means / n
    total = square - n * all_mean**2
    within = square - (size[:, None] * means**2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 1e-12, 1 - within / (n - t) / (total / (n - 1)), np.nan), means, size


def pseudobulk(x, kind, depth, rng):
    """Log pseudobulk of random groups of one type, and their types."""
    rows, cols, kinds = [], [], []
    for t in range(kind.max() + 1):
        cells = rng.permutation(np.flatnonzero(kind == t))
        groups = len(cells) // GROUP
        if groups < 2:
            continue
        for k in range(groups):
            cols.append(cells[k * GROUP : (k + 1) * GROUP])
            rows.append(np.full(GROUP, len(kinds)))
            kinds.append(t)
    if len(set(kinds)) < 2:
        return None, None
    rows, cols = np.concatenate(rows), np.concatenate(cols)
    sums = sp.csr_matrix((np.ones(len(rows)), (rows, cols)), shape=(len(kinds), x.shape[0]))
    bulk = np.asarray((sums @ x).todense())
    return np.log1p(bulk / bulk.sum(1, keepdims=True) * depth), np.unique(kinds, return_inverse=True)[1]


def correlation(x, y):
    """Pearson's r of the columns of two sparse matrices."""
    n = x.shape[0]
    mean = [np.asarray(m.mean(0)).ravel() for m in (x, y)]
    sd = [np.sqrt(np.maximum(np.asarray(m.multiply(m).mean(0)).ravel() - u**2, 0)) for m, u in zip((x, y), mean)]
    r = np.asarray((x.T @ y).todense()) / n - np.outer(*mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        return r / np.outer(*sd)


def type_correlation(x, y, size):
    w = size / size.sum()
    x, y = (m - w @ m for m in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * w[:, None]).T @ y / np.outer(np.sqrt(w @ x**2), np.sqrt(w @ y**2))


def excess(r, distance):
    near, far = (r[(distance >= a) & (distance < b) & np.isfinite(r)] for a, b in ((0, 2e3), (2e5, 5e5)))
    if len(near) < 5 or len(far) < 5:
        return "too few pairs"
    return f"{roc_auc_score(np.repeat([1, 0], [len(near), len(far)]), np.concatenate([near, far])):.3f}"


def measure(folder, gtf, types_of):
    """Label and value, in the order of the table."""
    a, rna = counts(folder / "rna.h5ad")
    b, atac = counts(folder / "atac.h5ad")
    if list(a.obs_names) != list(b.obs_names):
        sys.exit(f"tissue-table: {folder}: the cells of the two files are not the same")
    kind = np.unique(a.obs[types_of].astype(str), return_inverse=True)[1]
    out = {"cells × genes / peaks": f"{rna.shape[0]:,} × {rna.shape[1]:,} / {atac.shape[1]:,}"}
    out["cell types"] = str(kind.max() + 1)
    depth = [np.asarray(m.sum(1)).ravel() for m in (rna, atac)]
    seen = [np.median(np.asarray((m > 0).sum(1)).ravel()) for m in (rna, atac)]
    out["a cell, medians: RNA counts, genes, peaks"] = f"{np.median(depth[0]):.0f}, {seen[0]:.0f}, {seen[1]:.0f}"
    for m, d, what in ((rna, depth[0], "gene"), (atac, depth[1], "peak")):
        out[f"mean counts a {what} and cell"] = f"{m.sum() / np.prod(m.shape):.4f}"
        out[f"zeros, {what}s"] = f"{1 - m.count_nonzero() / np.prod(m.shape):.4f}"
        of = np.asarray(m.mean(0)).ravel()
        out[f"sd between {what}s of log mean count"] = f"{np.log(of[of > 0]).std():.2f}"
        out[f"sd between cells of log depth, {what}s"] = f"{np.log(d[d > 0]).std():.2f}"
    keep = (depth[0] > 0) & (depth[1] > 0)
    rna, atac, kind = rna[keep], atac[keep], np.unique(kind[keep], return_inverse=True)[1]
    depth = [d[keep] for d in depth]
    out["correlation of the log depths"] = f"{np.corrcoef(*np.log(depth))[0, 1]:.2f}"

    genes = (sp.diags(1e4 / depth[0]) @ rna).tocsr()
    genes.data = np.log1p(genes.data)
    peaks = (sp.diags(np.median(depth[1]) / depth[1]) @ atac).tocsr()
    enough = [np.asarray((m > 0).sum(0)).ravel() >= FEWEST for m in (rna, atac)]
    rng = np.random.default_rng(1)
    means, size = [], None
    for x, raw, ok, bulk_depth, what in (
        (genes, rna, enough[0], 1e4, "genes"),
        (peaks, atac, enough[1], 1e4, "peaks"),
    ):
        share, mean, size = between(x, kind)
        means.append(mean)
        out[f"variance between types, {what}: median (mean)"] = f"{np.nanmedian(share[ok]):.4f} ({np.nanmean(share[ok]):.4f})"
        bulk, bulk_kind = pseudobulk(raw, kind, bulk_depth, rng)
        label = f"the same of pseudobulk, {what}"
        out[label] = "too few cells"
        if bulk is not None:
            share, *_ = between(bulk[:, ok], bulk_kind)
            out[label] = f"{np.nanmedian(share):.3f} ({np.nanmean(share):.3f})"

    places = gene_places(a.var, folder, gtf)
    chrom = np.array([str(p[0]) for p in places])
    tss = np.array([p[1] for p in places], dtype=float)
    where = [re.match(r"(.+)[-_:](\d+)[-_](\d+)$", n).groups() for n in b.var_names]
    peak_chrom = np.array([w[0] for w in where])
    middle = np.array([(int(w[1]) + int(w[2])) / 2 for w in where])
    same = (chrom[:, None] == peak_chrom[None, :]) & np.isfinite(tss)[:, None]
    distance = np.where(same, np.abs(tss[:, None] - middle[None, :]), np.inf)
    both_enough = enough[0][:, None] & enough[1][None, :]
    r, rt = correlation(genes, peaks), type_correlation(*means, size)
    ok = both_enough & np.isfinite(r) & np.isfinite(rt)
    near = ok & (distance < 5e5)
    d, rn, rtn = distance[near], r[near], rt[near]
    out["promoter excess, AUROC of r over cells"] = excess(rn, d)
    out["promoter excess, AUROC of r between types"] = excess(rtn, d)
    for low, high in BINS:
        i = (d >= low) & (d < high)
        label = f"r at {low / 1e3:.0f}–{high / 1e3:.0f} kb: cells, types (pairs)"
        out[label] = f"{rn[i].mean():.4f}, {rtn[i].mean():.3f} ({i.sum():,})" if i.any() else "none"
    trans = ok & ~same & np.isfinite(tss)[:, None]
    out["r on other chromosomes: cells, types"] = f"{r[trans].mean():.4f}, {rt[trans].mean():.3f}"
    out["sd of r on other chromosomes: cells, types"] = f"{r[trans].std():.4f}, {rt[trans].std():.3f}"

    pairs = distance < 5e5
    both = np.asarray(((rna > 0).astype(float).T @ (atac > 0).astype(float)).todense())[pairs]
    out["cells with both, pairs within 500 kb: median, mean"] = f"{np.median(both):.0f}, {both.mean():.1f}"
    out["pairs of which no cell has both"] = f"{(both == 0).mean():.3f}"
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("sets", nargs="*", metavar="NAME=FOLDER")
    p.add_argument("--difficulty", nargs="*", default=[], help="simulate these first")
    p.add_argument("--program", default="sccrossrec")
    p.add_argument("--cells", default=10_000, type=int)
    p.add_argument("--seed", default=906, type=int)
    p.add_argument("--simulate", nargs=argparse.REMAINDER, default=[], help="further flags of simulate; last")
    p.add_argument("--out", default=Path("tissue-table"), type=Path)
    p.add_argument("--gtf", default="", help="places of genes for sets that do not have them; several with commas")
    p.add_argument("--types", default="cell_type", help="column of obs")
    options = p.parse_args()
    sets = [tuple(s.split("=", 1)) for s in options.sets]
    for name in options.difficulty:
        folder = options.out / f"{name}-{options.seed}"
        if not (folder / "truth.tsv").exists():
            words = ["simulate", "--difficulty", name, "--cells", options.cells, "--out", folder, "--force", *options.simulate]
            command = [str(w) for w in (options.program, "--quiet", "--seed", options.seed, *words)]
            subprocess.run(command, check=True, stdout=sys.stderr)
        sets.append((name, folder))
    if not sets:
        p.error("name a data set or a difficulty")
    columns = [measure(Path(folder), options.gtf, options.types) for _, folder in sets]
    print("| | " + " | ".join(name for name, _ in sets) + " |")
    print("| --- |" + " --- |" * len(sets))
    for label in columns[0]:
        print(f"| {label} | " + " | ".join(c[label] for c in columns) + " |")


if __name__ == "__main__":
    main()
