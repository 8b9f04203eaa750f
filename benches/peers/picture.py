#!/usr/bin/env python3
"""Rows of results (JSON lines) -> one SVG of 700 px: FOSCTTM and Pearson by gene against processor seconds.

    picture.py rows.jsonl --data NAME --out picture.svg

Means over seeds; bars: standard deviation. Methods that tell nothing of the matter (zeros, the mean of the gene) are lines. Needs
matplotlib, pandas.
"""
import argparse
import json

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

SHORT = {
    "CCA of PCA and LSI, with depths": "CCA", "CCA of PCA and LSI, without depths": "CCA, no depth",
    "ridge from LSI and depth to PCA": "ridge to PCA",
    "two towers on PCA, LSI, depth": "towers, PCA and LSI",
    "two towers on all genes and peaks, depth an input": "towers, genes and peaks",
    "our towers in PyTorch, depth apart": "our towers, PyTorch",
    "mean of the gene in the true type (told the label)": "true type's mean (told)",
    "mean of the gene in the type told from LSI": "told type's mean", "ridge from LSI and depth": "ridge",
    "kernel ridge from LSI and depth, 4,000 cells": "kernel ridge", "perceptron on LSI and depth": "perceptron, LSI",
    "perceptron on all peaks and depth (BABEL-like)": "perceptron, peaks (BABEL-like)",
}
PANELS = [("partners", "foscttm", "FOSCTTM (less is better)"), ("expression", "gene_pearson", "Pearson by gene (more is better)")]
LINES = {"depth alone": "depth alone", "zeros": None, "mean of the gene": None}


def short(name):
    if name in SHORT:
        return SHORT[name]
    return name.replace(" epochs of 500", " epochs").replace("GLUE for paired cells, at most", "GLUE,")


def place(ax, figure, points):
    """A label at each point, where it covers least of what is there."""
    figure.canvas.draw()
    renderer, frame, taken = figure.canvas.get_renderer(), ax.get_window_extent(), []
    dots = [ax.transData.transform((x, y)) for x, y, _ in points]
    taken = [(a - 5, b - 5, a + 5, b + 5) for a, b in dots]

    def overlap(p, q):
        return max(0, min(p[2], q[2]) - max(p[0], q[0])) * max(0, min(p[3], q[3]) - max(p[1], q[1]))
    for x, y, label in sorted(points, key=lambda p: -len(p[2])):
        best = None
        for away in (8, 16, 26, 38):
            for ha, va, dx, dy in (("left", "center", 1, 0), ("right", "center", -1, 0), ("center", "bottom", 0, 1),
                                   ("center", "top", 0, -1), ("left", "bottom", .7, .7), ("right", "top", -.7, -.7),
                                   ("left", "top", .7, -.7), ("right", "bottom", -.7, .7)):
                t = ax.annotate(label, (x, y), (dx * away, dy * away), textcoords="offset points", ha=ha, va=va, fontsize=9)
                box = t.get_window_extent(renderer).extents
                outside = max(0, frame.x0 - box[0]) + max(0, box[2] - frame.x1) + max(0, frame.y0 - box[1]) + max(0, box[3] - frame.y1)
                cost = sum(overlap(box, o) for o in taken) + 100 * outside + 3 * away
                if best is None or cost < best[0]:
                    best = (cost, box, (dx * away, dy * away), ha, va, away)
                t.remove()
        _, box, at, ha, va, away = best
        line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6} if away > 8 else None
        ax.annotate(label, (x, y), at, textcoords="offset points", ha=ha, va=va, fontsize=9, arrowprops=line)
        taken.append(tuple(box))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("rows", nargs="+")
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", required=True)
    o = ap.parse_args()
    t = pd.DataFrame([json.loads(line) for path in o.rows for line in open(path)])
    t = t[(t["data"] == o.data) & (t["split"] == "cell")]
    plt.rcParams.update({"font.family": ["DejaVu Sans", "sans-serif"], "font.size": 9, "svg.hashsalt": "peers",
                         "axes.spines.top": False, "axes.spines.right": False})
    # 700 px are 525 pt
    figure, axes = plt.subplots(2, 1, figsize=(525 / 72, 560 / 72), layout="constrained")
    for ax, (job, metric, title) in zip(axes, PANELS):
        points = []
        ax.set_xscale("log")
        for name, rows in t[t["job"] == job].groupby("method", sort=False):
            if name == "zeros":
                continue
            y, sd, x = rows[metric].mean(), rows[metric].std(), max(rows["cpu_s"].mean(), 0.01)
            if name in LINES:
                if LINES[name]:
                    ax.axhline(y, color="#999999", linewidth=0.8, linestyle=":")
                    ax.text(0.005, y, LINES[name], transform=ax.get_yaxis_transform(), va="bottom", color="#666666")
                continue
            ours = name.startswith(("sccrossrec", "our "))
            ax.errorbar(x, y, yerr=0 if np.isnan(sd) else sd, marker="o", markersize=6, linewidth=1,
                        color="#c2410c" if ours else "#1d4ed8")
            points.append((x, y, short(name)))
        low, high = (f(p[0] for p in points) for f in (min, max))
        ax.set_xlim(low / 2, high * 6)
        ax.margins(y=0.15)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("processor seconds, fitting and telling (log)")
        ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.grid(alpha=0.25)
        place(ax, figure, points)
    figure.savefig(o.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
