#!/usr/bin/env python3
"""GLUE for paired cells (scglue) on the same cells: partners, expression, embeddings. The flags of peers.py, and --epochs.

The graph: each gene with the peaks within 150 kb of its start, weighted by distance as the tool weighs them. Fitted on training
cells, of which it takes its own validation part. Needs scglue.
"""
import argparse
import tempfile
import time

import common
import numpy as np
import pandas as pd
from common import Cells, cosine

REACH = 150_000


def guidance(prepared):
    import networkx as nx
    genes, peaks = (pd.read_csv(f"{prepared}/{f}.tsv", sep="\t", dtype={"chrom": str}) for f in ("genes", "peaks"))
    genes["tss"] = pd.to_numeric(genes["tss"], errors="coerce")
    g = nx.MultiDiGraph()
    for name in [*genes["gene"], *peaks["peak"]]:
        g.add_edge(name, name, weight=1.0, sign=1, type="loop")
    for chrom, there in peaks.sort_values("start").groupby("chrom"):
        starts, ends, names = there["start"].values, there["end"].values, there["peak"].values
        widest = (ends - starts).max()
        for gene, tss in genes.loc[genes["chrom"] == chrom, ["gene", "tss"]].dropna().itertuples(index=False):
            first, last = np.searchsorted(starts, [tss - REACH - widest, tss + REACH])
            for i in range(first, last):
                d = max(starts[i] - tss, tss - ends[i], 0)
                if d <= REACH:
                    w = float(((d + 1000) / 1000) ** -0.75)
                    g.add_edge(gene, names[i], weight=w, sign=1, type="fwd")
                    g.add_edge(names[i], gene, weight=w, sign=1, type="rev")
    return g


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--rna", "--atac", "--prepared", "--name", "--out"):
        ap.add_argument(flag, required=True)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--cell-type", default="cell_type")
    ap.add_argument("--epochs", type=int, required=True, help="of each of the two stages, at most")
    o = ap.parse_args()
    about = {"data": o.name, "split": "cell", "seed": o.seed}
    name = f"GLUE for paired cells, at most {o.epochs} epochs"
    if name in common.done(o.out, about):
        return
    import anndata as ad
    import scglue
    import torch
    torch.set_num_threads(1)
    scglue.config.CPU_ONLY = True
    cells = Cells(o.rna, o.atac, o.cell_type, o.prepared, None, o.seed)
    begun = time.process_time()
    pca, lsi = cells.both()
    rna, atac = (ad.AnnData(x.copy(), obs=pd.DataFrame(index=cells.names), var=pd.DataFrame(index=names))
                 for x, names in ((cells.C, cells.genes), (cells.B, cells.peaks)))
    rna.obsm["X_rep"], atac.obsm["X_rep"] = pca[:, :-1], lsi[:, :-1]
    for part in (rna, atac):
        part.var["highly_variable"] = True
        scglue.models.configure_dataset(part, "NB", use_highly_variable=True, use_rep="X_rep", use_obs_names=True)
    g = guidance(o.prepared)
    known = set(g.nodes)
    if missing := [n for n in [*cells.genes, *cells.peaks] if n not in known]:
        raise SystemExit(f"{len(missing)} features are not in {o.prepared}, such as {missing[0]}")
    with tempfile.TemporaryDirectory() as folder:
        model = scglue.models.fit_SCGLUE({"rna": rna[cells.tr].copy(), "atac": atac[cells.tr].copy()}, g,
                                         model=scglue.models.PairedSCGLUEModel, init_kws={"random_seed": o.seed},
                                         fit_kws={"max_epochs": o.epochs, "directory": folder})
        u, v = model.encode_data("rna", rna), model.encode_data("atac", atac)
        told = model.decode_data("atac", "rna", atac[cells.te].copy(), g, target_libsize=float(cells.median))
    cpu, peak = time.process_time() - begun, common.peak_mib()
    va, te = cells.va, cells.te
    result = {"scores": (cosine(u[va], v[va]), cosine(u[te], v[te])), "expression": np.log1p(np.asarray(told)),
              "z": {"joint": np.hstack([u, v]), "atac": v}, "chosen": {"epochs at most": o.epochs}}
    common.write_rows(o.out, cells, about, name, result, cpu, peak)


if __name__ == "__main__":
    main()
