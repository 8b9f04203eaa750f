#!/usr/bin/env python3
"""All pairs of a gene and a peak whose middle is within a window of its TSS, as peers.py takes them.

    pairs.py --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf[.gz] [--window 500000] [--genes N] --out pairs.tsv

Genes by gene_name, else gene_id without its version, against the names of the RNA; peaks named chr1_100_200, chr1-100-200 or
chr1:100-200. Of a name with several gene records, the first. --genes: of N
of the genes, chosen at random. Needs anndata, pandas.
"""
import argparse
import gzip
import re

import anndata as ad
import numpy as np
import pandas as pd


def tss(path):
    by_name, by_id = {}, {}
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as lines:
        for line in lines:
            f = line.rstrip("\n").split("\t")
            if line.startswith("#") or len(f) < 9 or f[2] != "gene":
                continue
            place = f[0], int(f[3]) - 1 if f[6] != "-" else int(f[4]) - 1
            for key, names in (("gene_name", by_name), ("gene_id", by_id)):
                found = re.search(f'{key} "([^"]+)"', f[8])
                if found:
                    names.setdefault(found[1].split(".")[0] if key == "gene_id" else found[1], place)
    return by_name, by_id


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rna", "atac", "gtf", "out"):
        o.add_argument(f"--{name}", required=True)
    o.add_argument("--window", type=int, default=500_000)
    o.add_argument("--genes", type=int)
    o = o.parse_args()
    genes, peaks = (ad.read_h5ad(f, backed="r").var_names.astype(str) for f in (o.rna, o.atac))
    if o.genes and o.genes < len(genes):
        genes = genes[np.sort(np.random.default_rng(0).choice(len(genes), o.genes, False))]
    by_name, by_id = tss(o.gtf)
    p = pd.Series(peaks).str.extract(r"^(.+?)[:_-](\d+)[_-](\d+)$").set_axis(["chrom", "start", "end"], axis=1).assign(peak=peaks)
    p = p.dropna().astype({"start": int, "end": int})
    there, out = {c: t.assign(middle=(t.start + t.end) / 2) for c, t in p.groupby("chrom")}, []
    for gene in genes:
        chrom, at = by_name.get(gene) or by_id.get(gene.split(".")[0]) or (None, 0)
        if chrom in there:
            t = there[chrom]
            t = t.assign(gene=gene, tss=at, distance=np.abs(t.middle - at))
            out.append(t[t.distance <= o.window])
    out = pd.concat(out)[["chrom", "start", "end", "gene", "tss", "distance", "peak"]]
    out.to_csv(o.out, sep="\t", index=False)
    print(f"{len(out)} pairs of {out.gene.nunique()} genes and {out.peak.nunique()} peaks")


if __name__ == "__main__":
    main()
