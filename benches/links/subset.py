#!/usr/bin/env python3
"""Writes rna.h5ad and atac.h5ad of some of the cells, or of all of them without their types.

    subset.py --rna rna.h5ad --atac atac.h5ad [--batches 09A,09B] [--without cell_type,ident] --out FOLDER

--batches: cells whose `batch` is one of these. cells.txt beside them lists the barcodes, for peers.py --cells. Needs anndata.
"""
import argparse
import pathlib

import anndata as ad


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rna", "atac", "out"):
        o.add_argument(f"--{name}", required=True)
    o.add_argument("--batches")
    o.add_argument("--without", default="")
    o = o.parse_args()
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    R, A = ad.read_h5ad(o.rna), ad.read_h5ad(o.atac)
    cells = R.obs_names
    if o.batches:
        cells = cells[R.obs.batch.astype(str).isin(o.batches.split(","))]
        if len(cells) == 0:
            raise SystemExit(f"no cell is of batch {o.batches}")
    for a, name in ((R, "rna"), (A, "atac")):
        a = a[cells].copy()
        a.obs = a.obs.drop(columns=[c for c in o.without.split(",") if c in a.obs])
        a.write_h5ad(out / f"{name}.h5ad")
    (out / "cells.txt").write_text("\n".join(cells) + "\n")
    print(f"{out}: {len(cells)} cells")


if __name__ == "__main__":
    main()
