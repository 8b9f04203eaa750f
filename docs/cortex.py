"""Fetches a small paired data set, 6 MB: python3 docs/cortex.py FOLDER [--from LOCAL]

SNARE-seq of adult mouse cortex (Chen et al. 2019, GSE126074): 10,309 cells, 1,677 genes, 25,734 peaks, counts, as chosen for
scMoMaT (github.com/PeterZZQ/scMoMaT, MIT). Writes FOLDER/rna.h5ad and FOLDER/atac.h5ad. Needs anndata, pandas, scipy.
--from takes the five files from a folder instead.
"""

import pathlib
import sys
import urllib.request

import anndata as ad
import pandas as pd
import scipy.sparse as sp

COMMIT = "dbd954de4b1be415cdea543baf2856df0fda6992"
ADDRESS = f"https://raw.githubusercontent.com/PeterZZQ/scMoMaT/{COMMIT}/data/real/MOp_5batches"


def main(out, local=None):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)

    def file(name):
        if local:
            return pathlib.Path(local) / name
        urllib.request.urlretrieve(f"{ADDRESS}/{name}", out / name)
        return out / name

    obs = pd.read_csv(file("meta_c1.csv"), index_col=0)
    obs.columns = ["batch", "barcode", "ident", "cell_type"]
    for name, matrix, features, kind in [("rna", "GxC1.npz", "genes.txt", "GEX"), ("atac", "RxC1.npz", "regions.txt", "ATAC")]:
        counts = sp.load_npz(file(matrix)).T.tocsr().astype("float32")
        var = pd.DataFrame({"feature_types": kind}, index=file(features).read_text().split())
        ad.AnnData(counts, obs=obs, var=var).write_h5ad(out / f"{name}.h5ad", compression="gzip")
        print(out / f"{name}.h5ad", counts.shape)


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--from"]
    if not 1 <= len(args) <= 2:
        sys.exit(__doc__)
    main(*args)
