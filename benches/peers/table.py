#!/usr/bin/env python3
"""Rows of results (JSON lines) -> Markdown tables on standard output: mean ± standard deviation over seeds, a table a job.

    table.py rows.jsonl [more.jsonl ...] [--data NAME]
"""
import argparse
import json

import pandas as pd

# job: (title, the metric that sorts, whether small is good, columns)
JOBS = {
    "partners": ("Partners among the test cells", "foscttm", True, {
        "foscttm": "FOSCTTM", "top1": "top 1", "top10": "top 10", "share_on_partner": "share on partner", "auroc": "AUROC",
        "auroc_same_type": "AUROC same type", "type_of_top1": "type of first"}),
    "expression": ("Log expression told from ATAC", "gene_pearson", False, {
        "rmse": "RMSE", "r2": "R²", "cell_pearson": "Pearson by cell", "gene_pearson": "Pearson by gene",
        "gene_spearman": "Spearman by gene", "gene_auroc": "AUROC by gene"}),
    "embeddings": ("Embeddings", "knn_accuracy", False, {
        "ari": "ARI", "nmi": "NMI", "knn_accuracy": "label by 15 neighbours", "transfer_from_atac": "label from ATAC alone",
        "depth_r2": "R² of depth", "dim": "dimensions"}),
}
FEW = {"dim": 0, "cpu_s": 1, "peak_mib": 0, "top1": 4, "share_on_partner": 4, "foscttm": 4, "rmse": 4}


def cell(values, digits):
    values = values.dropna()
    if values.empty:
        return "—"
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 and digits else ""
    return f"{values.mean():.{digits}f}{spread}"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("rows", nargs="+")
    ap.add_argument("--data")
    o = ap.parse_args()
    t = pd.DataFrame([json.loads(line) for path in o.rows for line in open(path)])
    for (data, split), of in t.groupby(["data", "split"], sort=False):
        if o.data and data != o.data:
            continue
        for job, (title, by, small, columns) in JOBS.items():
            j = of[of["job"] == job]
            if j.empty:
                continue
            columns = {**columns, "cpu_s": "CPU s", "peak_mib": "peak MiB"}
            print(f"### {title}: {data}, split by {split}\n")
            print("| method | seeds | " + " | ".join(columns.values()) + " |\n|" + " --- |" * (len(columns) + 2))
            order = j.groupby("method")[by].mean().sort_values(ascending=small, kind="stable").index
            for m in order:
                rows = j[j["method"] == m]
                cells = [cell(rows[c], FEW.get(c, 3)) if c in rows else "—" for c in columns]
                print(f"| {m} | {rows['seed'].nunique()} | " + " | ".join(cells) + " |")
            print()


if __name__ == "__main__":
    main()
