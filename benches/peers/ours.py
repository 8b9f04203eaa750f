#!/usr/bin/env python3
"""The program's own rows, with the metrics of the others: runs train, evaluate, embed and translate.

    ours.py --program sccrossrec --prepared DATA --rna rna.h5ad --atac atac.h5ad --seed S --name NAME --work FOLDER
            --out rows.jsonl [--label TEXT] [-- FLAGS OF train ...]

Read of what the program writes: from `embed`, obsm X_sccrossrec (both modalities), X_sccrossrec_rna, X_sccrossrec_atac and
X_sccrossrec_rna_depth, X_sccrossrec_atac_depth, where the score of a pair is the product of [rna | rna_depth] with
[atac | atac_depth]; from `translate`, X: expected log1p of counts scaled to the median cell. Everything on one thread. Processor
seconds are those of the verbs a job needs: `train` and `embed`, or `train` and `translate`; reading is in them.
"""
import argparse
import os
import pathlib
import subprocess
import sys

import anndata as ad
import common
import numpy as np
import pandas as pd
import scipy.sparse as sp
from common import Cells


class Program:
    """Runs verbs and keeps what each cost."""

    def __init__(self, path, work):
        self.path, self.work, self.cpu, self.peak = path, pathlib.Path(work), {}, {}

    def __call__(self, verb, *flags):
        log = self.work / f"{verb}.out"
        with open(log, "wb") as f:
            p = subprocess.Popen([self.path, "--quiet", "--threads", "1", verb, *map(str, flags)], stdout=f)
            _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        if p.returncode:
            sys.exit(f"{verb} failed with {p.returncode}: {log}")
        self.cpu[verb], self.peak[verb] = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        return log

    def cost(self, *verbs):
        return sum(self.cpu[v] for v in verbs), max(self.peak[v] for v in verbs)


def rows_in_order(table, names, what):
    """obsm or X of the cells `names`, in their order; NaN for cells that are not there."""
    at = pd.Index(table.obs_names.astype(str)).get_indexer(names)
    x = what.toarray() if sp.issparse(what) else np.asarray(what)
    out = np.full((len(names), x.shape[1]), np.nan, np.float32)
    out[at >= 0] = x[at[at >= 0]]
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--program", "--prepared", "--rna", "--atac", "--name", "--work", "--out"):
        ap.add_argument(flag, required=True)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--cell-type", default="cell_type")
    ap.add_argument("--label", default="sccrossrec")
    ap.add_argument("train", nargs="*", help="flags of train, after --")
    o = ap.parse_args()
    about = {"data": o.name, "split": "cell", "seed": o.seed}
    if o.label in common.done(o.out, about):
        return
    work = pathlib.Path(o.work)
    work.mkdir(parents=True, exist_ok=True)
    program, run = Program(o.program, work), work / "run"
    program("train", "--data", o.prepared, "--out", run, "--seed", o.seed, "--force", *o.train)
    program("evaluate", "--run", run, "--json", "--out", work / "evaluate.json", "--force")
    program("embed", "--run", run, "--out", work / "z.h5ad", "--force")
    program("translate", "--run", run, "--part", "test", "--out", work / "told.h5ad", "--force")

    cells = Cells(o.rna, o.atac, o.cell_type, o.prepared, None, o.seed)
    va, te = cells.va, cells.te
    z = ad.read_h5ad(work / "z.h5ad")
    need = ["X_sccrossrec" + end for end in ("", "_rna", "_atac", "_rna_depth", "_atac_depth")]
    if missing := [k for k in need if k not in z.obsm]:
        sys.exit(f"{work / 'z.h5ad'}: no obsm {', '.join(missing)}")
    joint, rna, atac, rna_depth, atac_depth = (rows_in_order(z, cells.names, z.obsm[k]) for k in need)
    used = np.concatenate([cells.tr, va, te])
    if np.isnan(joint[used]).any():
        sys.exit(f"{work / 'z.h5ad'}: cells of the sample set are missing")
    u, v = np.hstack([rna, rna_depth]), np.hstack([atac, atac_depth])
    cpu, peak = program.cost("train", "embed")
    common.write_rows(o.out, cells, about, o.label,
                      {"scores": (u[va] @ v[va].T, u[te] @ v[te].T), "z": {"joint": joint, "atac": atac}}, cpu, peak)
    told = ad.read_h5ad(work / "told.h5ad")
    expression = rows_in_order(told, cells.names[te], told[:, cells.genes].X)
    if np.isnan(expression).any():
        sys.exit(f"{work / 'told.h5ad'}: test cells are missing")
    common.write_rows(o.out, cells, about, o.label, {"expression": expression}, *program.cost("train", "translate"))


if __name__ == "__main__":
    main()
