#!/usr/bin/env python3
"""How well links are found, and genes predicted, by scores and by recipes of training: over seeds, on planted and on real data.

    benches/recipes.sh [--program sccrossrec] [--out FOLDER] [--seeds 906 907 908 909 910] [--cells 3000] [--epochs 10]
                       [--real NAME=FOLDER …] [--only WORD …]

Planted: `simulate --difficulty independent|programs|distance`, another data set for every seed; `prepare` with a tenth of the
cells held out; each recipe trained; `discover --truth` and `evaluate` on the cells held out. Real: FOLDER holds rna.h5ad and
atac.h5ad (and genes.gtf or genes.gtf.gz); seeds differ in the cells held out, initialisation and order. Runs that are there
already are not run again.

Writes links.csv (a row a data set, seed, recipe, region and score), cells.csv (a row a data set, seed, recipe and measure) and
recipes.md, links.svg: means ± standard deviations over seeds; differences are paired by seed. Needs Python 3.9 and nothing else.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

RECIPES = {
    "default": [],
    "large-batch": ["--recipe", "large-batch"],
    "default, no contrast": ["--contrast", "0"],
    "default, with translation": ["--alpha", "1"],
}
DIFFICULTIES = ["independent", "programs", "distance"]
BASELINES = ["correlation", "distance"]


class Table:
    """Rows kept as they come."""

    def __init__(self, path, columns):
        self.path, self.columns, self.rows = path, columns, []

    def add(self, *row):
        self.rows.append(row)
        with open(self.path, "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(self.columns)
            out.writerows(self.rows)


def run(options, seed, *words):
    """What the program tells, and its processor seconds."""
    command = [str(w) for w in (options.program, "--quiet", "--seed", seed, *words, "--json")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    told = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"recipes: {' '.join(command)} ended with {child.returncode}")
    return json.loads(told), usage.ru_utime + usage.ru_stime


def prepared(options, name, seed, source, extra):
    """The data set of a seed, and its folder."""
    data = options.out / "work" / f"{name}-{seed}"
    if not (data / "dataset.json").exists():
        files = ["--rna", source / "rna.h5ad", "--atac", source / "atac.h5ad", *extra]
        run(options, seed, "prepare", *files, "--split", "cell", "--out", data, "--force")
    return data


def trained(options, name, seed, data, recipe):
    folder = options.out / "work" / f"{name}-{seed}-{recipe}".replace(" ", "_").replace(",", "")
    if not (folder / "done").exists():
        words = ["--device", "cpu", "--epochs", options.epochs, *RECIPES[recipe]]
        _, seconds = run(options, seed, "train", "--data", data, "--out", folder, "--force", *words)
        (folder / "done").write_text(str(seconds))
    return folder, float((folder / "done").read_text())


def measured(options, links, cells, name, seed, data, truth):
    for recipe in options.recipes:
        folder, seconds = trained(options, name, seed, data, recipe)
        if truth:
            found = folder / "links"
            if not (found / "discover.json").exists():
                run(options, seed, "discover", "--run", folder, "--truth", truth, "--null", "none", "--out", found, "--force")
            with open(found / "recovery.tsv", newline="") as f:
                for r in csv.DictReader(f, delimiter="\t"):
                    links.add(name, seed, recipe, r["distance"], r["score"], r["pairs"], r["links"], r["auroc"], r["auprc_over_chance"])
        told, _ = run(options, seed, "evaluate", "--run", folder, "--part", "test")
        measures = {
            "matching accuracy": told["matching"]["model"]["accuracy"],
            "matching AUROC": told["matching"]["model"]["auroc"],
            "translation MAE": told["translation"]["model"]["mae"],
            "translation F1": told["translation"]["model"]["f1"],
            "translation MAE, all zeros": told["translation"]["all_zeros"]["mae"],
            "processor seconds of training": seconds,
        }
        for who in ("cis", "cis_and_depth", "counts", "gene_mean", "type_mean"):
            of = (told["detection"] or {}).get(who) or {}
            measures[f"detection AUROC, {who}"] = of.get("auroc")
            measures[f"detection log loss, {who}"] = of.get("log_loss")
        for measure, value in measures.items():
            if value is not None:
                cells.add(name, seed, recipe, measure, f"{value:.6g}")
        print(f"{name} {seed} {recipe}: {seconds:.0f} s", file=sys.stderr, flush=True)


def spread(values, digits=3):
    sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{sd}"


def links_table(links, name):
    """Scores by region; those that training changes once for each recipe."""
    rows = [r for r in links.rows if r[0] == name]
    if not rows:
        return ""
    recipes = list(dict.fromkeys(r[2] for r in rows))
    scores = list(dict.fromkeys(r[4] for r in rows))
    value = {(r[1], r[2], r[3], r[4]): (float(r[7]), float(r[8])) for r in rows}
    # Seeds whose recipes are all there.
    seeds = [s for s in sorted({r[1] for r in rows}) if {r[2] for r in rows if r[1] == s} == set(recipes)]
    if not seeds:
        return ""
    trained = {"attention", "attention per cell with both", "query · key", "cis weight", "cis contribution"}
    lines = [f"**{name}**, {len(seeds)} seeds", "",
             "| score | training | AUROC, all | AUPRC / chance, all | AUROC, within 500 kb | AUPRC / chance, within 500 kb |",
             "| --- | --- | --- | --- | --- | --- |"]
    for score in scores:
        for recipe in recipes if score in trained else recipes[:1]:
            if (seeds[0], recipe, "all", score) not in value:
                continue
            of = lambda region, i: spread([value[s, recipe, region, score][i] for s in seeds], 3 if i == 0 else 1)
            who = recipe if score in trained else "-"
            lines.append(f"| {score} | {who} | {of('all', 0)} | {of('all', 1)} | {of('0-500kb', 0)} | {of('0-500kb', 1)} |")
    first = recipes[0]
    for region in ("all", "0-500kb"):
        gain = [value[s, first, region, "evidence"][0] - max(value[s, first, region, b][0] for b in BASELINES) for s in seeds]
        left = [1 - max(value[s, first, region, b][0] for b in BASELINES) for s in seeds]
        lines.append(f"\nEvidence, AUROC above the better of correlation and distance, {region}: {spread(gain, 4)}"
                     f" (room up to 1: {statistics.mean(left):.4f})")
    bins = [r for r in dict.fromkeys(r[3] for r in rows) if r not in ("all", "0-500kb")]
    lines += ["", "AUROC (AUPRC / chance) by distance:", "", f"| score | {' | '.join(bins)} |", "| --- |" + " --- |" * len(bins)]
    for score in ("evidence", "partial correlation", "correlation", "distance"):
        row = []
        for b in bins:
            got = [value[s, first, b, score] for s in seeds if value[s, first, b, score][0] == value[s, first, b, score][0]]
            row.append(f"{statistics.mean(g[0] for g in got):.3f} ({statistics.mean(g[1] for g in got):.1f})" if got else "-")
        lines.append(f"| {score} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def cells_table(cells, name):
    rows = [r for r in cells.rows if r[0] == name]
    recipes = list(dict.fromkeys(r[2] for r in rows))
    lines = [f"**{name}**, cells held out", "", f"| measure | {' | '.join(recipes)} |", "| --- |" + " --- |" * len(recipes)]
    for measure in dict.fromkeys(r[3] for r in rows):
        of = [[float(r[4]) for r in rows if r[2] == recipe and r[3] == measure] for recipe in recipes]
        digits = 1 if measure.startswith("processor") else 4
        lines.append(f"| {measure} | {' | '.join(spread(v, digits) if v else '-' for v in of)} |")
    return "\n".join(lines) + "\n"


def figure(links, names, path):
    """AUROC of the pairs within 500 kb by score, mean and standard deviation over seeds, one panel a difficulty; SVG."""
    scores = [("evidence", "-"), ("partial correlation", "-"), ("correlation", "-"), ("distance", "-"),
              ("cis weight", "default"), ("query · key", "default"), ("attention", "default"), ("attention", "large-batch")]
    colours = {"-": "#0072b2", "default": "#009e73", "large-batch": "#d55e00"}
    width, left, top, row = 250, 210, 60, 26
    height = top + row * len(scores) + 50
    text = lambda x, y, words, more="": f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width * len(names) + 20}" height="{height}" font-family="sans-serif" '
           'font-size="13" fill="#222">', '<rect width="100%" height="100%" fill="#fff"/>',
           text(10, 22, "Planted links found among pairs within 500 kb (AUROC, mean ± sd over seeds)", 'font-size="15" font-weight="bold"')]
    for k, (score, recipe) in enumerate(scores):
        y = top + row * k + 17
        out.append(text(left - 12, y, score + ("" if recipe == "-" else f" ({recipe})"), 'text-anchor="end"'))
    for i, name in enumerate(names):
        x0 = left + width * i
        at = lambda v: x0 + (v - 0.4) / 0.6 * (width - 30)
        out.append(text(x0 + (width - 30) / 2, top - 10, name, 'text-anchor="middle" font-weight="bold"'))
        for tick in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            out.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{top}" y2="{height - 45}" stroke="#ddd"/>')
            out.append(text(at(tick), height - 28, tick, 'text-anchor="middle" font-size="11"'))
        for k, (score, recipe) in enumerate(scores):
            first = links.rows[0][2]
            got = [float(r[7]) for r in links.rows
                   if r[0] == name and r[2] == (first if recipe == "-" else recipe) and r[3] == "0-500kb" and r[4] == score]
            if got:
                mean, sd = statistics.mean(got), statistics.stdev(got) if len(got) > 1 else 0.0
                y, ink = top + row * k + 12, colours[recipe]
                out.append(f'<line x1="{at(max(mean - sd, 0.4)):.1f}" x2="{at(min(mean + sd, 1)):.1f}" y1="{y}" y2="{y}" stroke="{ink}" stroke-width="3"/>')
                out.append(f'<circle cx="{at(max(mean, 0.4)):.1f}" cy="{y}" r="5" fill="{ink}"/>')
    key = {"-": "of the data alone", "default": "trained by the default recipe", "large-batch": "trained by large-batch"}
    x = left
    for who, words in key.items():
        out.append(f'<circle cx="{x}" cy="{height - 10}" r="5" fill="{colours[who]}"/>')
        out.append(text(x + 10, height - 6, words, 'font-size="12"'))
        x += 40 + 7 * len(words)
    path.write_text("\n".join([*out, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="sccrossrec")
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[906, 907, 908, 909, 910])
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--real", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--planted", nargs="*", default=DIFFICULTIES)
    parser.add_argument("--only", nargs="+", help="recipes of these names, or whose name holds one of these words")
    options = parser.parse_args()
    options.recipes = [r for r in RECIPES if not options.only or any(word == r or word not in RECIPES and word in r for word in options.only)]
    (options.out / "work").mkdir(parents=True, exist_ok=True)
    links = Table(options.out / "links.csv", ["data", "seed", "recipe", "region", "score", "pairs", "links", "auroc", "auprc_over_chance"])
    cells = Table(options.out / "cells.csv", ["data", "seed", "recipe", "measure", "value"])
    names = []
    for seed in options.seeds:
        for name in options.planted:
            raw = options.out / "work" / f"raw-{name}-{seed}"
            if not (raw / "truth.tsv").exists():
                run(options, seed, "simulate", "--difficulty", name, "--cells", options.cells, "--out", raw, "--force")
            data = prepared(options, name, seed, raw, ["--gtf", raw / "genes.gtf"])
            measured(options, links, cells, name, seed, data, raw / "truth.tsv")
            names.append(name)
        for real in options.real:
            name, _, folder = real.partition("=")
            source = Path(folder)
            gtf = [p for p in (source / "genes.gtf", source / "genes.gtf.gz") if p.exists()]
            data = prepared(options, name, seed, source, ["--gtf", gtf[0]] if gtf else [])
            measured(options, links, cells, name, seed, data, None)
            names.append(name)
        text = []
        for name in dict.fromkeys(names):
            text += [links_table(links, name), cells_table(cells, name)]
        (options.out / "recipes.md").write_text("\n".join(t for t in text if t))
        if links.rows:
            figure(links, list(dict.fromkeys(r[0] for r in links.rows)), options.out / "links.svg")
    print((options.out / "recipes.md").read_text())


if __name__ == "__main__":
    main()
