#!/usr/bin/env python3
"""Compares the scores that peers.py wrote: with known links, with another experiment, and with themselves in the other cells.

    score.py SCORES.tsv --truth truth.tsv              known links (columns gene, peak); pairs within 500 kb
    score.py SCORES.tsv --e18 FOLDER                   links of an E18 mouse brain multiome (e18_links.mm10.tsv.gz and
                                                       e18_peaks_chr1_10_11.mm10.tsv.gz), for mm10 data
    score.py --halves A.tsv B.tsv                      the same pairs scored in two halves of the cells

Markdown on standard output. AUROC and AUPRC of every column beyond the pair's own, all pairs and beyond 50 kb, ± standard
deviation over bootstraps of genes; "with distance" adds the ranks of the score and of nearness, for scores that do not know the
distance; NaN counts as the smallest. --against SCORE: the difference to that one on the same bootstraps. --least-cells N: only
pairs that N cells have both of. --table FILE: also as TSV. --over TABLE …: mean ± sd over such tables, named DIFFICULTY….SEED.tsv,
instead. Needs pandas, scipy.
"""
import argparse
import pathlib

import numpy as np
import pandas as pd
from scipy.stats import rankdata

KEYS = ["chrom", "start", "end", "gene", "peak", "distance", "n_cells"]
FAR = 50_000


def scores(t):
    return [c for c in t.select_dtypes("number") if c not in KEYS and t[c].notna().any()]


def numbers(x):
    """Ranks from 1, the smallest for what is unknown."""
    return rankdata(np.where(np.isnan(x), -np.inf, x))


def auroc(y, x):
    n = y.sum()
    return (rankdata(x)[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)) if 0 < n < len(y) else np.nan


def auprc(y, x):
    """Mean precision over positives, ties taken together."""
    if not y.any():
        return np.nan
    order = np.argsort(-x, kind="stable")
    last = np.append(np.flatnonzero(np.diff(x[order])), len(x) - 1)
    hits = np.cumsum(y[order])[last]
    return (np.diff(hits, prepend=0) * hits / (last + 1)).sum() / y.sum()


def overlaps(rows, places):
    """Whether each row's [start, end) meets one of the places'."""
    out = np.zeros(len(rows), bool)
    for chrom, there in places.groupby("chrom"):
        at = np.flatnonzero((rows.chrom == chrom).values)
        there = there.sort_values("start")
        reach = np.maximum.accumulate(there.end.values)
        before = np.searchsorted(there.start.values, rows.end.values[at], "left")  # places that start before the row ends
        out[at] = (before > 0) & (reach[np.maximum(before - 1, 0)] > rows.start.values[at])
    return out


def measure(t, y, o, seed=0):
    against, resamples = o.against, o.resamples
    few = (t.n_cells < o.least_cells).values
    if few.any():
        t, y = t[~few].reset_index(drop=True), y[~few]
    far, genes = (t.distance.abs() > FAR).values, pd.factorize(t.gene)[0]
    near = rankdata(-t.distance.abs().values)
    by = [np.flatnonzero(genes == k) for k in range(genes.max() + 1)]
    rng = np.random.default_rng(seed)
    draws = [np.concatenate([by[k] for k in rng.integers(0, len(by), len(by))]) for _ in range(resamples)]

    def values(x, both, at):
        f = at[far[at]]
        return [auroc(y[at], x[at]), auprc(y[at], x[at]), auroc(y[f], x[f]), auprc(y[f], x[f]),
                auroc(y[at], both[at]), auprc(y[at], both[at])]

    found, spread = {}, {}
    for name in scores(t):
        x = numbers(t[name].values)
        found[name] = np.array(values(x, x + near, np.arange(len(t))))
        spread[name] = np.array([values(x, x + near, at) for at in draws])
    print(f"{len(t)} pairs of {len(by)} genes, {y.sum()} positives ({y.mean():.4f}); beyond 50 kb {far.sum()}, {(y & far).sum()} "
          f"({y[far].mean():.4f}). ± over {resamples} bootstraps of genes\n")
    head = ["score", "AUROC", "AUPRC", "AUROC > 50 kb", "AUPRC > 50 kb", "AUROC with distance", "AUPRC with distance"]
    head += [f"AUROC less {against}'s", f"AUPRC less {against}'s"] if against and resamples else []
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    if o.table:
        rows = [(n, len(t), y.sum(), *v, *(np.nanstd(spread[n], 0)[:2] if resamples else ())) for n, v in found.items()]
        names = ["score", "pairs", "positives"] + head[1:7] + ["sd AUROC", "sd AUPRC"] * bool(resamples)
        pd.DataFrame(rows, columns=names).to_csv(o.table, sep="\t", index=False, float_format="%.5f")
    for name in sorted(found, key=lambda n: -found[n][0]):
        if not resamples:
            print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in found[name]) + " |")
            continue
        cells = [f"{v:.3f} ± {s:.3f}" for v, s in zip(found[name], np.nanstd(spread[name], 0))]
        if against:
            s = np.nanstd(spread[name] - spread[against], 0)
            cells += [f"{found[name][i] - found[against][i]:+.3f} ± {s[i]:.3f}" for i in (0, 1)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def known(t, path, o):
    links = set(map(tuple, pd.read_csv(path, sep="\t")[["gene", "peak"]].astype(str).values))
    t = t[t.distance.abs() <= 500_000].reset_index(drop=True)
    y = np.array([pair in links for pair in zip(t.gene.astype(str), t.peak.astype(str))])
    print(f"\nKnown links: {len(links)}, {y.sum()} of them among the pairs scored")
    measure(t, y, o)


def e18(t, folder, o):
    """Pairs whose peak was tested there and whose gene has a link there; positives: its links of positive correlation."""
    folder = pathlib.Path(folder)
    links = pd.read_csv(folder / "e18_links.mm10.tsv.gz", sep="\t")
    tested = pd.read_csv(folder / "e18_peaks_chr1_10_11.mm10.tsv.gz", sep="\t").peak.str.extract(r"^(.+)_(\d+)_(\d+)$")
    tested = tested.set_axis(["chrom", "start", "end"], axis=1).astype({"start": int, "end": int})
    t = t[t.chrom.isin(tested.chrom.unique()) & (t.distance.abs() <= 500_000) & t.gene.isin(links.gene)]
    t = t[overlaps(t, tested)].reset_index(drop=True)
    y = np.zeros(len(t), bool)
    for gene, of in links[links.correlation > 0].groupby("gene"):
        at = np.flatnonzero((t.gene == gene).values)
        y[at] = overlaps(t.iloc[at], of)
    print("\nE18 mouse brain")
    measure(t, y, o)


def halves(a, b):
    a, b = (pd.read_csv(f, sep="\t") for f in (a, b))
    both = a.merge(b, on=["gene", "peak"], suffixes=("", "|b"))
    common = [c for c in scores(a) if c in scores(b)]
    enough = ((both.n_cells >= 10) & (both["n_cells|b"] >= 10)).values
    print(f"\nHalves: {len(both)} pairs in both, {enough.sum()} with ten cells that have gene and peak in each half\n")
    head = ["score", "Spearman, ten cells", "shared of the first 500", "of the first 500 with ten cells",
            "positive in the other, first 200", "the same with ten cells"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    rows = []
    for c in common:
        x, y = both[c].values, both[f"{c}|b"].values
        rho = pd.Series(x[enough]).corr(pd.Series(y[enough]), method="spearman")
        out = [rho]
        for keep in (np.ones(len(both), bool), enough):
            at, n = np.flatnonzero(keep), min(500, keep.sum() // 2)
            # ties in a fixed order that is no score's
            order = np.random.default_rng(0).permutation(len(at))
            first = lambda v, n: at[order[np.argsort(-numbers(v[at])[order], kind="stable")[:n]]]
            out.append(len(set(first(x, n)) & set(first(y, n))))
            out.append(np.mean([np.mean(v[first(u, 200)] > 0) for u, v in ((x, y), (y, x))]))
        rows.append((c, out[0], out[1], out[3], out[2], out[4]))
    for c, rho, n, n10, s, s10 in sorted(rows, key=lambda r: -np.nan_to_num(r[1])):
        sign = ("—", "—") if np.nanmax(both[c].values) <= 0 or np.nanmin(both[c].values) >= 0 else (f"{s:.2f}", f"{s10:.2f}")
        print(f"| {c} | {rho:.3f} | {n} | {n10} | {sign[0]} | {sign[1]} |")


def over(paths):
    """Mean ± sd over seeds, a column a kind of data."""
    t = pd.concat([pd.read_csv(p, sep="\t").assign(data=pathlib.Path(p).name.split(".")[0]) for p in paths])
    data = list(dict.fromkeys(t.data))
    of = t.groupby(["score", "data"])[["AUROC", "AUPRC", "pairs", "positives"]].agg(["mean", "std", "count"])
    for d in data:
        n = t[t.data == d]
        print(f"{d}: {n.groupby('score').size().max()} seeds, {n.pairs.mean():.0f} pairs, {n.positives.mean():.0f} links "
              f"({n.positives.sum() / n.pairs.sum():.4f})")
    print("\n| score | " + " | ".join(data) + " |\n|" + " --- |" * (len(data) + 1))
    whole = [d for d in data if all((n, d) in of.index for n in t.score.unique())] or data
    for name in sorted(t.score.unique(), key=lambda n: -t[(t.score == n) & t.data.isin(whole)].AUPRC.mean()):
        cells = [", ".join(f"{of.loc[(name, d), (m, 'mean')]:.3f} ± {of.loc[(name, d), (m, 'std')]:.3f}" for m in ("AUROC", "AUPRC"))
                 if (name, d) in of.index else "—" for d in data]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    o.add_argument("scores", nargs="?")
    o.add_argument("--truth")
    o.add_argument("--e18")
    o.add_argument("--halves", nargs=2, metavar=("A", "B"))
    o.add_argument("--against", help="a score to compare the others with")
    o.add_argument("--resamples", type=int, default=200)
    o.add_argument("--least-cells", type=int, default=0, help="cells with both that a pair needs to be compared")
    o.add_argument("--table", help="where to write the figures as TSV, too")
    o.add_argument("--over", nargs="+", metavar="TABLE")
    args = o.parse_args()
    if args.over:
        return over(args.over)
    if (args.truth or args.e18) and not args.scores or not (args.truth or args.e18 or args.halves):
        o.error("say what to score (SCORES.tsv with --truth or --e18), or --halves A B")
    if args.scores:
        t = pd.read_csv(args.scores, sep="\t")
        if args.against and args.against not in scores(t):
            o.error(f"--against {args.against}: one of {', '.join(scores(t))}")
        if args.truth:
            known(t, args.truth, args)
        if args.e18:
            e18(t, args.e18, args)
    if args.halves:
        halves(*args.halves)


if __name__ == "__main__":
    main()
