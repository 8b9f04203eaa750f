"""Do the engine, the published model and the strengthened one compute the same?

    python agree.py --golden DIR           the golden files, in float64: loss, every gradient, thirty steps of Adam
    python agree.py --inputs DIR           what `cargo bench --bench against -- write` left: the engine's losses and gradients
                 [--data DIR]              and are its samples those of the .h5ad files?

Losses are to agree to 1e-4 (float32, no dropout), to 1e-9 in float64. Prints one line a comparison and exits with 1 where
anything disagrees; with 3 where that is nothing but gradients in float32: two peaks of a gene whose scores differ in the last
place fall out of its top ten the other way round, which moves the gradient of a single sample.
"""
import argparse
import json
import pathlib
import sys
import warnings

import torch

import graphs
from inputs import Inputs, read
from model import CrossRec
from strengthened import Batch, Strengthened

LOSS_F32, LOSS_F64, GRADIENT_F64 = 1e-4, 1e-9, 1e-9
# Decisions (top ten, s > tau, count > 9) of float32 fall differently here and there; each moves gradients by its share.
GRADIENT_F32 = 1e-3


warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")


def published(inputs, model, batch):
    """The mean over samples, one by one, gradients added up."""
    total = 0.0
    for i in batch:
        loss = model.loss(inputs.features, inputs.graph(i)) / len(batch)
        loss.backward()
        total += loss.item()
    return total


def strengthened(inputs, model, batch):
    loss = model.loss(inputs.features, Batch(inputs.features, [inputs.sample(i) for i in batch]))
    loss.backward()
    return loss.item()


KINDS = {"published": (CrossRec, published), "strengthened": (Strengthened, strengthened)}


class ByColumns(Strengthened):
    way = "columns"


class CellByCell(Strengthened):
    way = "cells"


# Both ways of the translation's backward pass, whichever it would choose.
FORCED = {"strengthened by columns": (ByColumns, strengthened), "strengthened cell by cell": (CellByCell, strengthened)}


def made(kind, weights, inputs):
    inputs.config["dropout"] = 0.0
    return (KINDS | FORCED)[kind][0].of(weights, inputs.features, **inputs.constants())


def gradients(model):
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def difference(got, want):
    """Relative L2; absolute where what is wanted is 0."""
    off, size = (got - want).double().norm().item(), want.double().norm().item()
    return off / size if size > 0 else off


class Verdict:
    def __init__(self):
        self.failed, self.of_gradients, self.compared = 0, 0, 0

    def say(self, what, off, limit, gradients=False):
        self.compared += 1
        bad = not off <= limit
        self.failed += bad
        self.of_gradients += bad and gradients
        print(f"{what}: {off:.1e} ({'MORE THAN' if bad else 'at most'} {limit:.0e})", flush=True)

    def gradients(self, what, got, want, limit):
        """All tensors; the worst is named. The sizes of `want` tell which of them are to be 0."""
        if set(got) != set(want):
            raise SystemExit(f"{what}: tensors differ: {sorted(set(got) ^ set(want))}")
        off = {name: difference(got[name], want[name]) for name in want}
        worst = max(off, key=off.get)
        self.say(f"{what}: {len(off)} gradients, worst {worst}", off[worst], limit, gradients=limit == GRADIENT_F32)
        return off


def golden(folder, verdict):
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors, metadata = read(path)
        inputs = Inputs.golden(tensors, json.loads(metadata["config"]))
        weights = {name[6:]: t for name, t in tensors.items() if name.startswith("param.")}
        for kind, (_, run) in (KINDS | FORCED).items():
            what = f"{path.stem}, {kind}"
            model = made(kind, weights, inputs)
            if "out.losses" in tensors:
                steps(what, model, run, inputs, tensors, verdict)
                continue
            loss = run(inputs, model, inputs.batches["all"])
            verdict.say(f"{what}: loss", difference(torch.tensor([loss], dtype=torch.float64), tensors["out.loss"]), LOSS_F64)
            want = {name[5:]: t for name, t in tensors.items() if name.startswith("grad.")}
            got = gradients(model)
            if path.stem == "ties":
                # topk takes any of equal peaks: gradients of pairs of peaks come out the other way round.
                name = "atac_idembedding.weight"
                got[name], want[name] = got[name][0::2] + got[name][1::2], want[name][0::2] + want[name][1::2]
            verdict.gradients(what, got, want, GRADIENT_F64)


def steps(what, model, run, inputs, tensors, verdict):
    c = inputs.config
    adam = torch.optim.Adam(model.parameters(), lr=c["lr"], betas=(c["beta1"], c["beta2"]), eps=c["eps"],
                            weight_decay=c["weight_decay"])
    losses = []
    for batch in tensors["data.batches"].tolist():
        adam.zero_grad(set_to_none=False)
        losses.append(run(inputs, model, batch))
        adam.step()
    verdict.say(f"{what}: losses of {len(losses)} steps", difference(torch.tensor(losses, dtype=torch.float64), tensors["out.losses"]), LOSS_F64)
    final = {name[6:]: t for name, t in tensors.items() if name.startswith("final.")}
    verdict.gradients(f"{what}: parameters after them", dict(model.named_parameters()), final, GRADIENT_F64)


def engine(folder, data, verdict):
    folder = pathlib.Path(folder)
    inputs, (weights, _), (found, _) = Inputs.open(folder / "inputs.safetensors"), read(folder / "weights.safetensors"), read(
        folder / "engine.safetensors")
    if data:
        same_samples(inputs, data, verdict)
    for kind, (_, run) in KINDS.items():
        for name, batch in inputs.batches.items():
            model = made(kind, weights, inputs)
            loss = run(inputs, model, batch)
            what = f"{name}, {kind} against the engine"
            verdict.say(f"{what}: loss {loss:.6f}", difference(torch.tensor([loss], dtype=torch.float64), found[f"{name}.loss"]), LOSS_F32)
            want = {t[len(name) + 6:]: g for t, g in found.items() if t.startswith(f"{name}.grad.")}
            off = verdict.gradients(what, gradients(model), want, GRADIENT_F32)
            print("    " + ", ".join(f"{t.removeprefix('cross_attention_layer.')} {x:.1e}" for t, x in off.items()))


def same_samples(inputs, data, verdict):
    """The samples and features as read here from the .h5ad files and the FASTA."""
    raw = graphs.Raw(data)
    differing = sum(not torch.equal(raw.tensors[name].long(), inputs.tensors[name].long())
                    for name in ("gene_chrom", "peak_chrom", "peak_dna"))
    for i, (rna, atac) in enumerate(inputs.config["barcodes"]):
        for side, file, barcode in (("rna", raw.rna, rna), ("atac", raw.atac, atac)):
            got, want = inputs.row(side, i), file.row(barcode)
            differing += not (torch.equal(got[0], want[0]) and torch.equal(got[1], want[1]))
    verdict.say(f"{len(inputs.config['barcodes'])} samples and the features, read from the files: those that differ", differing, 0)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--golden")
    options.add_argument("--inputs")
    options.add_argument("--data", help="folder of the .h5ad files")
    options = options.parse_args()
    verdict = Verdict()
    if options.golden:
        golden(options.golden, verdict)
    if options.inputs:
        engine(options.inputs, options.data, verdict)
    print(f"{verdict.compared} comparisons, {verdict.failed} disagree")
    only_gradients = verdict.failed and verdict.failed == verdict.of_gradients
    sys.exit(3 if only_gradients else 1 if verdict.failed or not verdict.compared else 0)


if __name__ == "__main__":
    main()
