#!/usr/bin/env python3
"""What a user would otherwise fit, on the same cells: partners, expression told from ATAC, and embeddings.

    peers.py --rna rna.h5ad --atac atac.h5ad (--prepared DATA | --test-batch COLUMN=VALUE) --seed S --name NAME --out rows.jsonl
             [--cell-type COLUMN] [--only METHOD ...]

--prepared: a folder that `prepare --seed S` made; its parts are used. --test-batch: the cells of one batch are the test part, a
tenth of the others the validation part. One line of JSON for each method and job; what is in rows.jsonl already is not run again.
All that is chosen (penalty, components, epoch) is chosen on validation cells. Methods that need more packages have programs of
their own (multivi.py, glue.py).
"""
import argparse

import common
import numpy as np
import towers
from common import Cells, cosine, foscttm

MODELS = {}


def method(name):
    def keep(function):
        MODELS[name] = function
        return function
    return keep


def best_of(grid, loss):
    return grid[int(np.argmin([loss(g) for g in grid]))]


# Partners ----------------------------------------------------------------------------------------------------------------------

@method("depth alone")
def depth_alone(cells):
    r, a = cells.rna_depth(), cells.atac_depth()
    return {"scores": tuple(-np.abs(r[q] - a[q].T) for q in (cells.va, cells.te))}


def canonical(a, b, penalty, tr):
    n = len(tr)
    ca, cb = (x[tr].T @ x[tr] / n + penalty * np.eye(x.shape[1]) for x in (a, b))
    ia, ib = (np.linalg.inv(np.linalg.cholesky(c)) for c in (ca, cb))
    u, s, v = np.linalg.svd(ia @ (a[tr].T @ b[tr] / n) @ ib.T)
    return a @ (ia.T @ u), b @ (ib.T @ v.T), s


def cca(cells, a, b):
    tr, va, te = cells.tr, cells.va, cells.te
    best = (np.inf,)
    for penalty in (0.01, 0.1, 0.3, 1.0):
        u, v, s = canonical(a, b, penalty, tr)
        for n in (5, 10, 15, 20, 40):
            for power in (0, 1, 2):
                x, z = u[:, :n] * s[:n] ** power, v[:, :n] * s[:n] ** power
                now = foscttm(cosine(x[va], z[va]))
                if now < best[0]:
                    best = (now, penalty, n, power, x, z)
    _, penalty, n, power, x, z = best
    return {"scores": tuple(cosine(x[q], z[q]) for q in (va, te)),
            "z": {"joint": np.hstack([common.unit(x), common.unit(z)]), "atac": common.unit(z)},
            "chosen": {"penalty": penalty, "n": n, "power": power}}


@method("CCA of PCA and LSI, with depths")
def cca_with_depths(cells):
    return cca(cells, *cells.both())


@method("CCA of PCA and LSI, without depths")
def cca_without_depths(cells):
    return cca(cells, *(x[:, :-1] for x in cells.both()))


@method("ridge from LSI and depth to PCA")
def ridge_to_pca(cells):
    from sklearn.linear_model import Ridge
    a, b = cells.both()
    a, tr, va, te = a[:, :-1], cells.tr, cells.va, cells.te

    def told(alpha):
        return Ridge(alpha=alpha).fit(b[tr], a[tr]).predict(b)
    alpha = best_of([30, 100, 300, 1000, 3000], lambda g: foscttm(cosine(a[va], told(g)[va])))
    p = told(alpha)
    return {"scores": tuple(cosine(a[q], p[q]) for q in (va, te)), "chosen": {"alpha": alpha}}


method("two towers on PCA, LSI, depth")(towers.towers_on_components)
method("two towers on all genes and peaks, depth an input")(towers.towers_on_all)
method("our towers in PyTorch, depth apart")(towers.towers_with_depth_apart)


# Expression --------------------------------------------------------------------------------------------------------------------

@method("zeros")
def zeros(cells):
    return {"expression": np.zeros_like(cells.L[cells.te])}


@method("mean of the gene")
def gene_mean(cells):
    return {"expression": np.repeat(cells.L[cells.tr].mean(0)[None], len(cells.te), 0)}


def type_means(cells):
    types = np.unique(cells.y)
    everyone = cells.L[cells.tr].mean(0)
    means = {t: cells.L[cells.tr[cells.y[cells.tr] == t]].mean(0) if (cells.y[cells.tr] == t).any() else everyone for t in types}
    return means


@method("mean of the gene in the true type (told the label)")
def true_type_mean(cells):
    means = type_means(cells)
    return {"expression": np.stack([means[t] for t in cells.y[cells.te]])}


@method("mean of the gene in the type told from LSI")
def told_type_mean(cells):
    from sklearn.linear_model import LogisticRegression
    z, means = cells.standard(cells.lsi()), type_means(cells)
    model = LogisticRegression(max_iter=300, C=0.1).fit(z[cells.tr], cells.y[cells.tr])
    return {"expression": model.predict_proba(z[cells.te]) @ np.stack([means[t] for t in model.classes_])}


def loss_on_validation(cells, tell):
    return lambda g: ((np.maximum(tell(g, cells.va), 0) - cells.L[cells.va]) ** 2).mean()


@method("ridge from LSI and depth")
def ridge(cells):
    from sklearn.linear_model import Ridge
    x = np.hstack([cells.standard(cells.lsi()), cells.atac_depth()])

    def tell(alpha, q):
        return Ridge(alpha=alpha).fit(x[cells.tr], cells.L[cells.tr]).predict(x[q])
    alpha = best_of([10, 30, 100, 300, 1000, 3000], loss_on_validation(cells, tell))
    return {"expression": tell(alpha, cells.te), "chosen": {"alpha": alpha}}


@method("kernel ridge from LSI and depth, 4,000 cells")
def kernel_ridge(cells):
    from scipy.linalg import cho_factor, cho_solve
    from sklearn.metrics.pairwise import rbf_kernel
    x = np.hstack([cells.standard(cells.lsi()), cells.atac_depth()])
    some = cells.tr
    if len(some) > 4000:
        some = np.sort(np.random.default_rng(cells.seed).choice(some, 4000, replace=False))
    mean = cells.L[some].mean(0)

    def tell(g, q):
        gamma, alpha = g
        k = rbf_kernel(x[some], x[some], gamma / x.shape[1])
        k[np.diag_indices_from(k)] += alpha
        return rbf_kernel(x[q], x[some], gamma / x.shape[1]) @ cho_solve(cho_factor(k), cells.L[some] - mean) + mean
    grid = [(0.1, 3), (0.1, 10), (0.3, 3), (0.3, 10), (0.3, 30)]
    gamma, alpha = best_of(grid, loss_on_validation(cells, tell))
    return {"expression": tell((gamma, alpha), cells.te), "chosen": {"gamma": gamma, "alpha": alpha}}


method("perceptron on LSI and depth")(towers.mlp_on_lsi)
method("perceptron on all peaks and depth (BABEL-like)")(towers.babel_like)


# Embeddings --------------------------------------------------------------------------------------------------------------------

@method("PCA of RNA")
def pca(cells):
    return {"z": {"joint": cells.pca()}}


@method("LSI of ATAC")
def lsi(cells):
    z = cells.lsi()
    return {"z": {"joint": z, "atac": z}}


@method("PCA and LSI side by side")
def pca_lsi(cells):
    r, a = cells.pca(), cells.lsi()
    return {"z": {"joint": np.hstack([r / r[cells.tr, 0].std(), a / a[cells.tr, 0].std()])}}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rna", required=True)
    ap.add_argument("--atac", required=True)
    ap.add_argument("--prepared")
    ap.add_argument("--test-batch")
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--name", required=True)
    ap.add_argument("--cell-type", default="cell_type")
    ap.add_argument("--only", nargs="+", choices=list(MODELS), metavar="METHOD")
    ap.add_argument("--out", required=True)
    o = ap.parse_args()
    if (o.prepared is None) == (o.test_batch is None):
        ap.error("one of --prepared and --test-batch")
    batch = o.test_batch.split("=", 1) if o.test_batch else None
    about = {"data": o.name, "split": f"batch:{batch[0]}, test {batch[1]}" if batch else "cell", "seed": o.seed}
    todo = [m for m in (o.only or MODELS) if m not in common.done(o.out, about)]
    if not todo:
        return
    cells = Cells(o.rna, o.atac, o.cell_type, o.prepared, batch, o.seed)
    print(f"{o.name}, seed {o.seed}: {len(cells.tr)} / {len(cells.va)} / {len(cells.te)} cells", flush=True)
    for m in todo:
        common.in_own_process(o.out, cells, about, m, MODELS[m])


if __name__ == "__main__":
    main()
