#!/usr/bin/env python3
"""How many links `discover` claims where there are none: real data whose ATAC was permuted.

    permuted.py --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf.gz [--program sccrossrec] [--seeds 5] --out permuted.tsv

    as it is   nothing permuted, for comparison
    cells      the ATAC of a cell goes to any other: nothing of a cell's two halves belongs together but the places
    types      the same within cell types: what lies between types stays, what lies within them does not
    places     peaks change places within twenty classes of accessibility: cells stay together, pairs are no longer near

A row a run: pairs tested, and those with q, q_within and lfdr below 0.1. Needs anndata, pandas.
"""
import argparse
import pathlib
import subprocess
import tempfile

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

CLASSES = 20


def permuted(A, kinds, mode, seed):
    rng, x = np.random.default_rng(seed), sp.csr_matrix(A.X)
    if mode == "places":
        cells = np.asarray((x > 0).sum(0)).ravel()
        rank = np.argsort(np.argsort(cells + rng.random(len(cells)) * 0.5))
        label, order = rank * CLASSES // len(cells), np.arange(len(cells))
    else:
        label, order = (kinds if mode == "types" else np.zeros(len(kinds), int)), np.arange(len(kinds))
    for k in np.unique(label):
        at = np.flatnonzero(label == k)
        order[at] = rng.permutation(at)
    return ad.AnnData(x[:, order] if mode == "places" else x[order], obs=A.obs, var=A.var)


def claims(o, atac, folder):
    for verb in (["prepare", "--rna", o.rna, "--atac", atac, "--gtf", o.gtf, "--out", f"{folder}/data", "--force"],
                 # neither replicates nor tables of types change the table of all cells
                 ["discover", "--data", f"{folder}/data", "--out", f"{folder}/out", "--replicates", "none",
                  "--min-type-cells", "1000000", "--no-gzip", "--force"]):
        subprocess.run([o.program, "--quiet", "--threads", "1"] + verb, check=True, stdout=subprocess.DEVNULL)
    t = pd.read_csv(f"{folder}/out/links.tsv", sep="\t")
    small = lambda c: int((t[c] < 0.1).sum())
    return {"tested": len(t), "q": small("qvalue"), "q_within": small("q_within"), "lfdr": small("lfdr"),
            "probability_sum": round(float(t.probability.sum()), 1), "least_q": t.qvalue.min()}


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rna", "atac", "gtf", "out"):
        o.add_argument(f"--{name}", required=True)
    o.add_argument("--program", default="sccrossrec")
    o.add_argument("--cell-type", default="cell_type")
    o.add_argument("--seeds", type=int, default=5)
    o = o.parse_args()
    R = ad.read_h5ad(o.rna, backed="r")
    A = ad.read_h5ad(o.atac)[R.obs_names].copy()
    kinds, rows = pd.factorize(R.obs[o.cell_type].astype(str))[0], []
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("as it is", "cells", "types", "places"):
            for seed in range(1, o.seeds + 1 if mode != "as it is" else 2):
                atac = o.atac
                if mode != "as it is":
                    atac = str(pathlib.Path(folder) / "atac.h5ad")
                    permuted(A, kinds, mode, seed).write_h5ad(atac)
                rows.append({"permuted": mode, "seed": seed, **claims(o, atac, folder)})
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(o.out, sep="\t", index=False)


if __name__ == "__main__":
    main()
