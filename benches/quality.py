#!/usr/bin/env python3
"""Validation scores (accuracy - MAE) of ways to train, over seeds, and what it costs to reach that of the published one.

    python3 benches/quality.py --program sccrossrec --data NAME=FOLDER [--data …] --out FOLDER [--seeds 906 907 908]

Each DATA folder is one that `sccrossrec prepare` made; samples are drawn by the published protocol (`--split sample`), the
same ones for all seeds, which differ in initialisation, order and dropout. Runs that are there already are not run again.
Every run has one thread, and its time is the processor's, so that a busy machine does not count.

Writes runs.csv (a row an epoch) and quality.md: score as mean and standard deviation over seeds; processor seconds to the
first epoch whose score reaches the published training's mean best score; how many seeds reached it.
Needs Python 3.9 and nothing else.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SQRT = ["--lr-scaling", "sqrt"]
WAYS = {
    "published (batch 1, 5e-4)": ["--recipe", "published"],
    "batch 64, 1e-3": ["--batch-size", "64"],
    "batch 64, 1e-3, warm-up": ["--batch-size", "64", "--warmup-epochs", "1"],
    "batch 32, sqrt": ["--batch-size", "32", *SQRT],
    "batch 256, 1e-3": ["--batch-size", "256"],
    "batch 256, sqrt": ["--batch-size", "256", *SQRT],
    "batch 256, sqrt, warm-up": ["--batch-size", "256", *SQRT, "--warmup-epochs", "1"],
    "batch 256, linear, warm-up": ["--batch-size", "256", "--lr-scaling", "linear", "--warmup-epochs", "1"],
    "batch 64, 1e-3, a tenth of the genes": ["--batch-size", "64", "--translate-genes", "0.1"],
    "batch 64, 1e-3, lazy Adam": ["--batch-size", "64", "--lazy-adam"],
}


def train(options, data, way, seed, epochs, run):
    """Trains unless the run is complete; processor seconds, and the log."""
    done = run / "cpu_seconds"
    if not done.exists():
        subprocess.run(["rm", "-rf", run], check=True)
        command = [options.program, "--quiet", "--threads", "1", "--seed", str(seed), "train", "--device", "cpu"]
        command += [] if "--recipe" in WAYS[way] else ["--recipe", "large-batch"]
        command += ["--data", data, "--samples", "published", "--out", run, "--epochs", str(epochs), *WAYS[way]]
        child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit(f"quality: {' '.join(map(str, command))} ended with {os.waitstatus_to_exitcode(status)}")
        done.write_text(str(usage.ru_utime + usage.ru_stime))
    with open(run / "log.csv", newline="") as log:
        return float(done.read_text()), list(csv.DictReader(log))


def spread(values):
    sd = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{sd}"


def summary(name, rows):
    """The table of a data set. `rows`: (way, seed, epoch, seconds, score, accuracy, mae)."""
    best = {}
    for way, seed, epoch, seconds, score, accuracy, mae in rows:
        if (way, seed) not in best or score > best[way, seed][0]:
            best[way, seed] = (score, accuracy, mae, epoch)
    ways = list(dict.fromkeys(row[0] for row in rows))
    goal = statistics.mean(b[0] for (way, _), b in best.items() if way == ways[0])
    lines = [
        f"**{name}**: the published training's mean best score is {goal:.4f}",
        "",
        "| training | seeds | epochs | best score | accuracy | MAE | seconds an epoch | seconds to the goal | reached by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in ways:
        mine = [row for row in rows if row[0] == way]
        seeds = sorted({row[1] for row in mine})
        epochs = max(row[2] for row in mine)
        a_epoch = statistics.mean(row[3] for row in mine if row[2] == epochs) / epochs
        reached = [min((row[3] for row in mine if row[1] == s and row[4] >= goal), default=None) for s in seeds]
        got = [r for r in reached if r is not None]
        columns = [spread([best[way, s][i] for s in seeds]) for i in (0, 1, 2)]
        first = f"{statistics.mean(got):.0f}" if got else "-"
        lines.append(
            f"| {way} | {len(seeds)} | {epochs} | {' | '.join(columns)} | {a_epoch:.1f} | {first} | {len(got)} of {len(seeds)} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="sccrossrec")
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER[:EPOCHS[:EPOCHS OF PUBLISHED]]")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[906, 907, 908])
    parser.add_argument("--only", nargs="+", help="ways to train whose name holds one of these words")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    ways = [w for w in WAYS if not options.only or any(word in w for word in options.only)]
    table, text = [], []
    for data in options.data:
        name, _, place = data.partition("=")
        folder, *limits = place.split(":")
        epochs = [int(limits[0]) if limits else 16, int(limits[1]) if len(limits) > 1 else 16]
        if not (Path(folder) / "samples" / "published").exists():
            command = [options.program, "samples", "--data", folder, "--name", "published", "--split", "sample"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows = []
        for way in ways:
            for seed in options.seeds:
                began = time.monotonic()
                run = options.out / "runs" / f"{name}-{way}-{seed}".replace(" ", "_").replace(",", "")
                cpu, log = train(options, folder, way, seed, epochs[way.startswith("published")], run)
                wall = float(log[-1]["seconds"])
                for r in log:
                    seconds = float(r["seconds"]) * cpu / wall
                    score, accuracy, mae = (float(r[k]) for k in ("score", "val_accuracy", "val_mae"))
                    rows.append((way, seed, int(r["epoch"]), seconds, score, accuracy, mae))
                print(f"{name} {way} {seed}: {cpu:.0f} s ({time.monotonic() - began:.0f})", file=sys.stderr, flush=True)
                with open(options.out / "runs.csv", "w", newline="") as f:
                    out = csv.writer(f, lineterminator="\n")
                    out.writerow("data,training,seed,epoch,cpu_seconds,score,accuracy,mae".split(","))
                    for done, lines in [*table, (name, rows)]:
                        out.writerows([done, *line] for line in lines)
        table.append((name, rows))
        text.append(summary(name, rows))
    (options.out / "quality.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
