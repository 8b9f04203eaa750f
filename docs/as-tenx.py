"""What `simulate` writes, as a 10x folder: python3 docs/as-tenx.py SIMULATED OUT

Writes OUT/matrix.mtx.gz, OUT/features.tsv.gz, OUT/barcodes.tsv.gz as Cell Ranger ARC does (genes, then peaks), and OUT/cells.csv with
the cell types, which 10x files do not have. Needs anndata and scipy.
"""

import gzip
import pathlib
import sys

import anndata as ad
import scipy.io
import scipy.sparse as sp


def main(simulated, out):
    simulated, out = pathlib.Path(simulated), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rna, atac = ad.read_h5ad(simulated / "rna.h5ad"), ad.read_h5ad(simulated / "atac.h5ad")
    counts = sp.vstack([sp.csr_matrix(a.layers["counts"]).T for a in (rna, atac)]).astype(int)
    with gzip.open(out / "matrix.mtx.gz", "wb") as f:
        scipy.io.mmwrite(f, counts, field="integer")
    with gzip.open(out / "features.tsv.gz", "wt") as f:
        for (name, v), number in zip(rna.var.iterrows(), range(1, rna.n_vars + 1)):
            f.write(f"SIMG{number:08}\t{name}\tGene Expression\t{v.chrom}\t{v.chromStart}\t{v.chromEnd}\n")
        for _, v in atac.var.iterrows():
            place = f"{v.chrom}:{v.chromStart}-{v.chromEnd}"
            f.write(f"{place}\t{place}\tPeaks\t{v.chrom}\t{v.chromStart}\t{v.chromEnd}\n")
    with gzip.open(out / "barcodes.tsv.gz", "wt") as f:
        f.writelines(f"{cell}-1\n" for cell in rna.obs_names)
    with open(out / "cells.csv", "w") as f:
        f.write("barcode,cell_type\n")
        f.writelines(f"{cell}-1,{kind}\n" for cell, kind in zip(rna.obs_names, rna.obs["cell_type"]))
    print(f"{out}: {rna.n_obs} cells, {rna.n_vars} genes, {atac.n_vars} peaks")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
