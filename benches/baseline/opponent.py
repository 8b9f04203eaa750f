"""The published model and training at NeurIPS-2021 shape, in PyTorch: one sample a step, every gene of a cell against
every peak under a dense mask, translation over all genes, dense Adam over all parameters. What `benches/epoch.rs` is
measured against. Needs torch and nothing else.

    python3 opponent.py [--device cuda] [--tiny] [--rounds 30] [--seconds 240]

Prints one JSON document: seconds of a positive and of a negative step (median, 10th and 90th percentile), and of an epoch
of 110,798 samples, half of them positives, with f32 products and with TF32 allowed.
"""
import argparse
import json
import math
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("opponent: torch is not here", file=sys.stderr)
    sys.exit(77)

THRESHOLD, PLACES, ENOUGH = 0.8, 10, 9
EPOCH = 110_798


class Indicator(torch.autograd.Function):
    """x > limit; the gradient passes as if it were x."""

    @staticmethod
    def forward(ctx, x, limit):
        return (x > limit).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class CrossRec(torch.nn.Module):
    """The model of one head; features lead with the one-hot of the chromosome."""

    def __init__(self, genes, peaks, dim, hidden, gene_features, peak_features):
        super().__init__()
        linear = torch.nn.Linear
        self.gene_id = torch.nn.Embedding(genes, dim)
        self.peak_id = torch.nn.Embedding(peaks, dim)
        wide_gene, wide_peak = dim + 1 + gene_features.shape[1], dim + 1 + peak_features.shape[1]
        self.query, self.key = linear(wide_gene, hidden), linear(wide_peak, hidden)
        self.gene_value, self.peak_value = linear(wide_gene, hidden), linear(wide_peak, hidden)
        self.gene_self, self.peak_self = linear(wide_gene, hidden), linear(wide_peak, hidden)
        self.gene_out, self.peak_out = linear(2 * hidden, hidden), linear(2 * hidden, hidden)
        self.fc1, self.fc2, self.fc3 = linear(2 * hidden, hidden), linear(hidden, hidden // 2), linear(hidden // 2, 2)
        self.dropout = torch.nn.Dropout(0.1)
        self.register_buffer("gene_features", gene_features)
        self.register_buffer("peak_features", peak_features)

    def gene_rows(self, index, value):
        return torch.cat([self.gene_id(index), value[:, None], self.gene_features[index]], 1)

    def peak_rows(self, index, value):
        return torch.cat([self.peak_id(index), value[:, None], self.peak_features[index]], 1)

    def forward(self, genes, expression, peaks, accessibility, mask):
        x, y = self.gene_rows(genes, expression), self.peak_rows(peaks, accessibility)
        score = torch.sigmoid(self.query(x) @ self.key(y).T * mask)
        best, place = score.topk(min(PLACES, score.shape[1]), dim=1)
        attention = torch.zeros_like(score).scatter(1, place, torch.softmax(best, 1))
        attention = attention * (score > THRESHOLD)
        to_genes = attention @ self.peak_value(y)
        to_peaks = attention.T @ self.gene_value(x)
        r = self.gene_out(torch.cat([to_genes, self.gene_self(x)], 1))
        p = self.peak_out(torch.cat([to_peaks, self.peak_self(y)], 1))
        z = torch.cat([r.mean(0), p.mean(0)])
        z = self.dropout(torch.relu(self.fc1(z)))
        z = self.dropout(torch.relu(self.fc2(z)))
        return self.fc3(z)

    def translate(self, peaks, accessibility):
        everything = torch.arange(self.gene_id.num_embeddings, device=peaks.device)
        q = self.query(self.gene_rows(everything, torch.ones(len(everything), device=peaks.device)))
        k = self.key(self.peak_rows(peaks, accessibility))
        passing = Indicator.apply(torch.sigmoid(q @ k.T), THRESHOLD)
        return Indicator.apply(passing.sum(1), ENOUGH)


def rate_for(frequency, wanted):
    """Each is present with probability 1 - exp(-rate f); the rate that gives `wanted` of them."""
    low, high = 0.0, 100.0
    for _ in range(40):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if (1 - torch.exp(-mid * frequency)).sum() < wanted else (low, mid)
    return 1 - torch.exp(-low * frequency)


def make(shape, device):
    random = torch.Generator().manual_seed(906)
    genes, peaks, chromosomes, bases, dim, hidden, cell_genes, cell_peaks = shape
    gene_chromosome = torch.randint(0, chromosomes, (genes,), generator=random)
    peak_chromosome = torch.arange(peaks) * chromosomes // peaks
    one_hot = torch.eye(chromosomes)
    dna = torch.randint(1, 5, (peaks, bases), generator=random) * 0.25
    features = one_hot[gene_chromosome], torch.cat([one_hot[peak_chromosome], dna], 1)
    torch.manual_seed(906)
    model = CrossRec(genes, peaks, dim, hidden, *features).to(device)
    gene_chance = rate_for(torch.exp(1.2 * torch.randn(genes, generator=random)), cell_genes)
    peak_chance = rate_for(torch.exp(1.2 * torch.randn(peaks, generator=random)), cell_peaks)
    cells = []
    for _ in range(8):
        g = (torch.rand(genes, generator=random) < gene_chance).nonzero()[:, 0]
        p = (torch.rand(peaks, generator=random) < peak_chance).nonzero()[:, 0]
        expression = torch.zeros(genes)
        expression[g] = 0.3 + 2 * torch.rand(len(g), generator=random)
        mask = (gene_chromosome[g][:, None] == peak_chromosome[p][None, :]).float()
        parts = g, expression[g], p, torch.ones(len(p)), mask, expression
        cells.append([part.to(device) for part in parts])
    return model, cells


def step(model, optimiser, cell, label):
    genes, expression, peaks, accessibility, mask, target = cell
    logits = model(genes, expression, peaks, accessibility, mask)
    loss = F.cross_entropy(logits[None], torch.tensor([label], device=logits.device))
    if label == 1:
        loss = loss + ((model.translate(peaks, accessibility) - target) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss


def quantile(times, share):
    return sorted(times)[round((len(times) - 1) * share)]


def measure(model, cells, device, rounds, deadline):
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-5)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times, losses = {0: [], 1: []}, []
    for i in range(3 + rounds):
        for label in (1, 0):
            wait()
            began = time.perf_counter()
            losses.append(step(model, optimiser, cells[i % len(cells)], label).item())
            wait()
            if i >= 3 or (i > 0 and time.monotonic() > deadline):
                times[label].append(time.perf_counter() - began)
        if time.monotonic() > deadline and times[0]:
            break
    summary = {}
    for label, name in ((1, "positive"), (0, "negative")):
        t = times[label]
        summary[name] = {"steps": len(t), "median": quantile(t, 0.5), "p10": quantile(t, 0.1), "p90": quantile(t, 0.9)}
    mean = 0.5 * (summary["positive"]["median"] + summary["negative"]["median"])
    summary |= {"samples_per_second": 1 / mean, "seconds_an_epoch": EPOCH * mean}
    summary |= {"first_loss": losses[0], "last_loss": losses[-1], "finite": all(map(math.isfinite, losses))}
    return summary


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--device", default="cuda")
    options.add_argument("--tiny", action="store_true", help="a small shape: to see that it runs")
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--seconds", type=float, default=240)
    options = options.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("opponent: torch has no GPU here", file=sys.stderr)
        sys.exit(77)
    shape = (180, 700, 4, 20, 32, 32, 40, 120) if options.tiny else (13431, 116490, 23, 256, 256, 128, 1000, 4000)
    model, cells = make(shape, options.device)
    on_gpu = options.device.startswith("cuda")
    document = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if on_gpu else options.device,
        "batch": 1,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    modes = [("f32", False), ("tf32", True)] if on_gpu else [("f32", False)]
    for i, (name, allowed) in enumerate(modes):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        deadline = time.monotonic() + options.seconds / len(modes)
        document[name] = measure(model, cells, options.device, options.rounds, deadline)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
