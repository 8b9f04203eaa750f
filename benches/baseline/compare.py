"""Measures the engine beside the published training and the strengthened one, on one data set: rows of compare.csv.

Run by `benches/compare.sh`, which says what is measured. What is compared takes turns, so that a machine that slows down
slows all of them; figures are medians.
"""
import argparse
import csv
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import torch
from safetensors.torch import load_file

import graphs
import published
import strengthened
from inputs import Inputs
from published import quantiles

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
HERE = pathlib.Path(__file__).parent
COLUMNS = ["what", "who", "shape", "n", "median", "p10", "p90", "unit", "extrapolated"]
# The published losses, as the other two have them.
RECIPE = "large-batch"
ENGINE, PUBLISHED, STRENGTHENED = "engine", "published", "strengthened"


class Table:
    """compare.csv, a row at a time."""

    def __init__(self, path, shape):
        self.path, self.shape = path, shape
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def add(self, what, who, times, unit, extrapolated=False):
        """Of one number, or of several."""
        q = quantiles(list(times) if isinstance(times, (list, tuple)) else [times])
        row = [what, who, self.shape, q["n"], *(f"{q[k]:.6g}" for k in ("median", "p10", "p90")), unit]
        with self.path.open("a", newline="") as f:
            csv.writer(f).writerow(row + ["yes" if extrapolated else "no"])
        print(f"{what}: {who} {q['median']:.4g} {unit}{' (extrapolated)' if extrapolated else ''}", flush=True)
        return q["median"]


def timed(command, **options):
    """Seconds and peak memory of a program, and what it printed; one that fails ends the comparison."""
    began = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, **options)
    text = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"compare: {' '.join(map(str, command))}: exit code {child.returncode}\n{text}")
    return time.perf_counter() - began, usage.ru_maxrss * 1024, text


def size(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


class Engine:
    """`against serve`, spoken to over its standard input."""

    def __init__(self, o, data, pool, run=None):
        command = [o.against, "serve", "--data", data, "--pool", pool, *(["--run", run] if run else [])]
        self.child = subprocess.Popen([str(w) for w in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()

    def read(self):
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit("compare: the engine has stopped")
        return json.loads(line)

    def ask(self, what, numbers):
        self.child.stdin.write(f"{what} {' '.join(map(str, numbers))}\n")
        self.child.stdin.flush()
        return self.read()["seconds"]

    def peak(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def preparation(o, table):
    """Both from the same files; the engine all of them, the published format the first samples."""
    if (o.raw / graphs.NAMES["rna"][1]).exists():
        source = ["--dataset", "neurips2021", "--from", o.raw]
    else:
        fasta = graphs.find(o.raw, "fasta")
        source = ["--rna", o.raw / "rna.h5ad", "--atac", o.raw / "atac.h5ad", *(["--fasta", fasta] if fasta else [])]
    took = {ENGINE: [], PUBLISHED: []}
    memory = {ENGINE: [], PUBLISHED: []}
    for i in range(1 if o.quick or o.cost else 3):
        seconds, peak, text = timed([o.engine, "prepare", *source, "--split", "sample", "--out", o.data, "--force", "--json"])
        told = json.loads(text)
        took[ENGINE].append(o.cells / seconds)
        memory[ENGINE].append(peak)
        if i == 0:
            timed([o.against, "samples", "--data", o.data, "--out", o.work / "samples.tsv"])
            choose(o)
        _, peak, text = timed([sys.executable, HERE / "graphs.py", "--data", o.raw, "--samples", o.work / "chosen.tsv", "--out", o.graphs])
        made = json.loads(text)
        took[PUBLISHED].append(made["cells_per_second"])
        memory[PUBLISHED].append(peak)
    samples = len((o.work / "samples.tsv").read_text().splitlines()) - 1
    for who in took:
        table.add("preparation", who, took[who], "cells/s")
        table.add("preparation, peak memory", who, memory[who], "bytes")
    table.add("preparation, on disk a sample", ENGINE, size(o.data) / samples, "bytes")
    table.add("preparation, on disk a sample", PUBLISHED, made["bytes_per_sample"], "bytes")
    table.add("preparation, on disk in all", ENGINE, size(o.data), "bytes")
    table.add("preparation, on disk in all", PUBLISHED, made["bytes_per_sample"] * samples, "bytes", True)
    return told


def choose(o):
    """Of the samples, those that are made into graphs: some for training, some for validation."""
    header, *rows = (o.work / "samples.tsv").read_text().splitlines()
    part = lambda name: [r for r in rows if r.endswith(f"\t{name}")]
    chosen = part("train")[: o.training] + part("val")[: o.validation]
    (o.work / "chosen.tsv").write_text("\n".join([header, *chosen]) + "\n")
    o.train_samples, o.val_samples = len(part("train")), len(part("val"))


def agreement(o, table):
    """Nothing is compared that does not compute the same."""
    timed([o.against, "write", "--data", o.data, "--pool", o.pool, "--out", o.inputs])
    command = [sys.executable, HERE / "agree.py", "--inputs", o.inputs, "--data", o.raw]
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True)
    (o.out / f"agree-{o.cells}.log").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 3):
        raise SystemExit(f"compare: they do not compute the same:\n{done.stdout}{done.stderr}")
    for what, mark in (("a loss", ": loss"), ("a gradient", " gradients, worst")):
        worst = max(float(line.split(": ")[-1].split()[0]) for line in done.stdout.splitlines() if mark in line)
        table.add(f"agreement, worst relative difference of {what}", "all", worst, "1")


def batch_one(o, table, weights, inputs, label="", run=None):
    """Steps of one sample, in turn. Returns the medians by (who, kind)."""
    engine = Engine(o, o.data, o.pool, run)
    constants = inputs.constants() | {"dropout": 0.1}
    theirs = published.Trainer(inputs.features, weights, **constants)
    better = strengthened.Training(inputs.features, weights, **constants)
    took = {}
    for i in range(2 + o.steps):
        for kind, first in (("positive", 0), ("negative", 1)):
            number = (first + 2 * i) % o.pool
            graph, sample = inputs.graph(number), inputs.sample(number)
            began = time.perf_counter()
            theirs.step(graph)
            now = {PUBLISHED: time.perf_counter() - began, ENGINE: engine.ask("step", [number])}
            began = time.perf_counter()
            better.step([sample])
            now[STRENGTHENED] = time.perf_counter() - began
            for who, seconds in now.items():
                if i >= 2:
                    took.setdefault((who, kind), []).append(seconds)
    engine.close()
    return {key: table.add(f"step, batch 1, {key[1]}{label}", key[0], seconds, "s") for key, seconds in took.items()}


def batches(o, table, weights, inputs, default):
    """Samples a second of the engine and of the strengthened one. Returns the medians by (who, batch)."""
    engine = Engine(o, o.data, o.pool)
    better = strengthened.Training(inputs.features, weights, **(inputs.constants() | {"dropout": 0.1}))
    medians = {}
    for size in sorted({default, *o.batches}):
        if size > o.pool:
            print(f"batch {size}: left out, there are {o.pool} samples")
            continue
        took = {ENGINE: [], STRENGTHENED: []}
        turns = itertools.cycle(range(0, o.pool - max(2, size) + 1, max(2, size)))
        for i in range(1 + o.rounds):
            start = next(turns)
            # Of one sample: a positive and a negative, and the mean of both.
            each = [[start + j for j in range(size)]] if size > 1 else [[start], [start + 1]]
            now = {ENGINE: 0.0, STRENGTHENED: 0.0}
            for numbers in each:
                samples = [inputs.sample(n) for n in numbers]
                now[ENGINE] += engine.ask("step", numbers) / len(each)
                began = time.perf_counter()
                better.step(samples)
                now[STRENGTHENED] += (time.perf_counter() - began) / len(each)
            if i > 0:
                for who, seconds in now.items():
                    took[who].append(seconds)
        for who, seconds in took.items():
            table.add(f"step, batch {size}", who, seconds, "s")
            rate = table.add(f"training, batch {size}", who, [size / s for s in seconds], "samples/s")
            medians[who, size] = rate
    table.add("training, peak memory", ENGINE, engine.peak(), "bytes")
    engine.close()
    return medians


def epoch(o, table, one, rates, default):
    """All training samples of this data set once."""
    n = o.train_samples
    if o.epoch:
        timed([o.engine, "train", "--data", o.data, "--out", o.work / "epoch", "--force", "--recipe", RECIPE, "--epochs", "1", "--quiet"])
        log = (o.work / "epoch" / "log.jsonl").read_text().splitlines()
        table.add("epoch", ENGINE, json.loads(log[0])["seconds"], "s")
    else:
        table.add("epoch", ENGINE, n / rates[ENGINE, default], "s", True)
    table.add("epoch, batch 1", ENGINE, n / 2 * (one[ENGINE, "positive"] + one[ENGINE, "negative"]), "s", True)
    table.add("epoch", STRENGTHENED, n / rates[STRENGTHENED, default], "s", True)
    table.add("epoch", PUBLISHED, n / 2 * (one[PUBLISHED, "positive"] + one[PUBLISHED, "negative"]), "s", True)


def evaluation(o, table, weights, inputs):
    """Matching and translation of cells."""
    engine = Engine(o, o.data, o.pool)
    theirs = published.Trainer(inputs.features, weights, **inputs.constants())
    positives = list(range(0, min(o.pool, 128), 2))
    took = {ENGINE: [], PUBLISHED: []}
    engine.ask("look", positives)
    for i in range(o.looks):
        took[ENGINE].append(len(positives) / engine.ask("look", positives))
        graph = inputs.graph(positives[i % len(positives)])
        began = time.perf_counter()
        theirs.look(graph)
        took[PUBLISHED].append(1 / (time.perf_counter() - began))
    engine.close()
    for who, rates in took.items():
        table.add("evaluation", who, rates, "cells/s")


def imported(o, weights, name):
    """A run of these weights."""
    timed([o.engine, "weights", "import", weights, "--data", o.data, "--out", o.work / name, "--force", "--json"])
    return o.work / name


def score(o, run):
    """Validation accuracy less mean absolute error, by the engine, for weights of either."""
    told = json.loads(timed([o.engine, "evaluate", "--run", run, "--part", "val", "--json"])[2])
    return told["matching"]["model"]["accuracy"] - told["translation"]["model"]["mae"]


def discovery(o, table, run):
    seconds, peak, _ = timed([o.engine, "discover", "--run", run, "--out", o.work / "links", "--force", "--quiet", "--json"])
    table.add("discovery", ENGINE, o.cells / seconds, "cells/s")
    table.add("discovery, all cells", ENGINE, seconds, "s")
    table.add("discovery, peak memory", ENGINE, peak, "bytes")


def to_score(o, table):
    """What the published training reaches in its time; how long the engine needs to reach that. Returns the engine's run."""
    weights = o.work / "published.safetensors"
    command = [sys.executable, HERE / "published.py", "train", "--graphs", o.graphs, "--weights", o.inputs / "weights.safetensors",
               "--seconds", o.opponent_seconds, "--every", max(o.training // 4, 20), "--save", weights]
    lines = [json.loads(line) for line in timed(command)[2].splitlines()]
    (o.out / f"published-{o.cells}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    best = max(lines, key=lambda line: line["score"])
    goal = score(o, imported(o, weights, "published"))
    table.add("validation score reached", PUBLISHED, goal, "accuracy - MAE")
    table.add("time to that score", PUBLISHED, best["seconds"], "s")
    run = o.work / "run"
    command = [o.engine, "train", "--data", o.data, "--out", run, "--force", "--recipe", RECIPE, "--epochs", "50", "--quiet"]
    child = subprocess.Popen([str(w) for w in command])
    began, reached, seconds, epochs = time.monotonic(), float("-inf"), 0.0, []
    while child.poll() is None and reached < goal and time.monotonic() - began < o.score_seconds:
        time.sleep(0.2)
        log = run / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        epochs = [json.loads(line) for line in lines if line.endswith("}")]
        scores = [e["score"] if e["score"] is not None else float("-inf") for e in epochs]
        reached = max(scores, default=reached)
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        child.wait()
    if epochs:
        table.add("validation score reached", ENGINE, reached, "accuracy - MAE")
    if reached >= goal:
        first = next(i for i, s in enumerate(scores) if s >= goal)
        table.add("time to that score", ENGINE, sum(e["seconds"] for e in epochs[: first + 1]), "s")
    else:
        best = f"{reached:.4f}" if epochs else "no epoch is finished"
        print(f"the engine has not reached {goal:.4f} in {time.monotonic() - began:.0f} s: {best}")
    return run if (run / "checkpoints" / "best.safetensors").exists() else None


def report(path, out):
    """compare.md: a row a measurement, a column a contestant."""
    with path.open() as f:
        rows = list(csv.DictReader(f))
    cell, keys = {}, []
    for r in rows:
        key = (r["shape"], r["what"], r["unit"])
        keys += [key] * (key not in keys)
        spread = f" ({r['p10']} to {r['p90']}, n {r['n']})" if int(r["n"]) > 1 else ""
        cell[key, r["who"]] = f"{r['median']}{spread}" + (", extrapolated" if r["extrapolated"] == "yes" else "")
    lines = [(out / "machine.md").read_text().rstrip(), ""]
    for shape in dict.fromkeys(k[0] for k in keys):
        lines += [f"## {shape} (cells × genes × peaks)", "", "| what | unit | engine | published | strengthened | engine, times the published |",
                  "| --- | --- | --- | --- | --- | --- |"]
        for key in (k for k in keys if k[0] == shape):
            found = [cell.get((key, who), cell.get((key, "all"), "–") if who == ENGINE else "–") for who in (ENGINE, PUBLISHED, STRENGTHENED)]
            pair = [float(c.split()[0].rstrip(",")) if c != "–" else None for c in found[:2]]
            ratio = "–"
            if None not in pair and min(pair) > 0 and key[2] != "accuracy - MAE":
                more = pair[0] / pair[1] if key[2].endswith("/s") else pair[1] / pair[0]
                ratio = f"{more:.3g}"
            lines.append(f"| {key[1]} | {key[2]} | {' | '.join(found)} | {ratio} |")
        lines.append("")
    (out / "compare.md").write_text("\n".join(lines))


def main():
    options = argparse.ArgumentParser()
    for name in ("engine", "against", "raw", "work", "out"):
        options.add_argument(f"--{name}", type=pathlib.Path)
    options.add_argument("--report", action="store_true", help="only write compare.md")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--cost", action="store_true", help="only what depends on the number of cells")
    options.add_argument("--epoch", action="store_true")
    options.add_argument("--opponent-seconds", type=float)
    o = options.parse_args()
    if o.report:
        report(o.out / "compare.csv", o.out)
        return
    choice = lambda quick, whole: quick if o.quick else whole
    # Steps are of two samples: a positive and a negative.
    o.steps, o.looks = choice(3, 25), choice(3, 20)
    o.rounds, o.batches = (choice(1, 2), []) if o.cost else (choice(2, 5), choice([1, 16], [1, 16, 64, 256, 512]))
    o.training, o.validation = (40, 10) if o.cost else (choice(24, 400), choice(16, 100))
    o.opponent_seconds = choice(15, 600) if o.opponent_seconds is None else o.opponent_seconds
    o.score_seconds = choice(30, 1800)
    o.data, o.graphs, o.inputs = o.work / "data", o.work / "graphs", o.work / "inputs"
    raw = graphs.Modality(graphs.find(o.raw, "rna")), graphs.Modality(graphs.find(o.raw, "atac"))
    o.cells = len(raw[0].cells)
    table = Table(o.out / "compare.csv", f"{o.cells} × {len(raw[0].names)} × {len(raw[1].names)}")
    recipes = json.loads(timed([o.engine, "recipes", "--json"])[2])
    default = next(r["config"]["batch_size"] for r in recipes if r["name"] == RECIPE)

    preparation(o, table)
    default = default if isinstance(default, int) else max(b for b in (32, 64, 128, 256, 512, 1024) if b == 32 or o.train_samples >= 200 * b)
    default = choice(min(default, 16), default)
    o.pool = min(choice(32, 512), o.train_samples // 2)
    agreement(o, table)
    weights = load_file(o.inputs / "weights.safetensors")
    inputs = Inputs.open(o.inputs / "inputs.safetensors")
    o.pool = len(inputs.label)
    one = batch_one(o, table, weights, inputs)
    rates = batches(o, table, weights, inputs, min(default, o.pool))
    epoch(o, table, one, rates, min(default, o.pool))
    if not o.cost:
        evaluation(o, table, weights, inputs)
    run = to_score(o, table) if o.opponent_seconds > 0 and not o.cost else None
    if run:
        timed([o.engine, "weights", "export", "--run", run, "--out", o.work / "trained.safetensors", "--force", "--json"])
        batch_one(o, table, load_file(o.work / "trained.safetensors"), inputs, ", trained", run)
    discovery(o, table, run or imported(o, o.inputs / "weights.safetensors", "untrained"))


if __name__ == "__main__":
    main()
