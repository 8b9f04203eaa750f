"""The published training, as users run it: PyTorch Geometric, one file a sample, one sample a step, dense Adam.

    python published.py steps --graphs DIR [--weights W.safetensors] [--steps 50]
    python published.py train --graphs DIR [--weights W.safetensors] [--seconds S] [--score X] [--every N] [--save F]

`graphs.py` makes DIR. `steps` prints the seconds of positive and of negative steps, and of reading a sample. `train` prints a
line of JSON at every validation (seconds of training, samples, accuracy, mae, score = accuracy - mae), and stops when the
time is up or the score reached; the weights of the best score go to F.
"""
import argparse
import json
import pathlib
import time

import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import Dataset
from torch_geometric.loader import DataLoader

from graphs import features
from model import CrossRec


class Graphs(Dataset):
    """The files that `graphs.py` wrote, of one part."""

    def __init__(self, folder, part=None, label=None):
        super().__init__()
        self.folder = pathlib.Path(folder) / "samples"
        listed = json.loads((self.folder.parent / "samples.json").read_text())
        self.numbers = [i for i, (l, p) in enumerate(listed) if part in (None, p) and label in (None, l)]

    def len(self):
        return len(self.numbers)

    def get(self, i):
        return torch.load(self.folder / f"{self.numbers[i]}.pt", weights_only=False)


def open_features(folder):
    stored = torch.load(pathlib.Path(folder) / "features.pt", weights_only=False)
    return features(stored["tensors"], stored["config"])


class Trainer:
    """The model and its optimiser."""

    def __init__(self, feature, weights=None, seed=906, **constants):
        torch.manual_seed(seed)
        if weights is None:
            sizes = len(feature.gene), len(feature.peak), feature.gene.shape[1], feature.peak.shape[1]
            self.model = CrossRec(*sizes, **constants)
        else:
            self.model = CrossRec.of(weights, feature, **constants)
        self.features = feature
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=5e-4, weight_decay=1e-5)

    def step(self, sample):
        self.model.train()
        loss = self.model.loss(self.features, sample)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    @torch.no_grad()
    def look(self, sample):
        """Is it matched rightly; and the mean absolute error of a positive's translation."""
        self.model.eval()
        right = int(self.model.match(self.features, sample).argmax()) == int(sample.label)
        if int(sample.label) == 0:
            return right, None
        predicted = self.model.translate(self.features, sample)
        return right, float((predicted - (sample.expression > 0).to(predicted.dtype)).abs().mean())

    def validate(self, samples):
        seen = [self.look(s) for s in samples]
        errors = [e for _, e in seen if e is not None]
        accuracy = sum(right for right, _ in seen) / max(len(seen), 1)
        mae = sum(errors) / max(len(errors), 1)
        return {"accuracy": accuracy, "mae": mae, "score": accuracy - mae, "samples": len(seen)}


def quantiles(times):
    times = sorted(times)
    at = lambda share: times[round((len(times) - 1) * share)]
    return {"n": len(times), "median": at(0.5), "p10": at(0.1), "p90": at(0.9)}


def timed(f, *given):
    began = time.perf_counter()
    out = f(*given)
    return time.perf_counter() - began, out


def steps(options, trainer):
    """Seconds of `steps` positive and as many negative steps after three of each."""
    out = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    loaders = {name: DataLoader(Graphs(options.graphs, label=label), batch_size=1, shuffle=True)
               for name, label in (("positive", 1), ("negative", 0))}

    def forever(loader):
        while True:
            yield from loader

    source = {name: forever(loader) for name, loader in loaders.items()}
    took = {name: ([], []) for name in loaders}
    for i in range(3 + options.steps):
        for name in loaders:
            reading, sample = timed(next, source[name])
            working, _ = timed(trainer.step, sample)
            if i >= 3:
                took[name][0].append(reading)
                took[name][1].append(working)
    for name, (reading, working) in took.items():
        out[name] = {"reading": quantiles(reading), "step": quantiles(working)}
    print(json.dumps(out))


def train(options, trainer):
    training = DataLoader(Graphs(options.graphs, "train"), batch_size=1, shuffle=True)
    validation = DataLoader(Graphs(options.graphs, "val"), batch_size=1)
    seconds, done, best = 0.0, 0, float("-inf")
    while True:
        source = iter(training)
        while True:
            began = time.perf_counter()
            sample = next(source, None)
            if sample is None:
                break
            loss = trainer.step(sample)
            seconds += time.perf_counter() - began
            done += 1
            over = seconds > options.seconds
            if over or done % options.every == 0:
                took, found = timed(trainer.validate, validation)
                line = {"seconds": seconds, "samples": done, "loss": loss, "validation_seconds": took}
                line |= {"validation": found.pop("samples")} | found
                print(json.dumps(line), flush=True)
                if options.save and found["score"] > best:
                    save_file(trainer.model.state_dict(), options.save)
                best = max(best, found["score"])
                if over or (options.score is not None and found["score"] >= options.score):
                    return


def main():
    options = argparse.ArgumentParser()
    options.add_argument("mode", choices=["steps", "train"])
    options.add_argument("--graphs", required=True)
    options.add_argument("--weights", help="where to start; else at random")
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--score", type=float)
    options.add_argument("--every", type=int, default=200, help="samples between validations")
    options.add_argument("--save", help="file for the weights of the best score")
    options = options.parse_args()
    weights = load_file(options.weights) if options.weights else None
    trainer = Trainer(open_features(options.graphs), weights)
    {"steps": steps, "train": train}[options.mode](options, trainer)


if __name__ == "__main__":
    main()
