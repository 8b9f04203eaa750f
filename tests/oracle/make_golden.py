"""Golden files from the float64 oracle: inputs, parameters, outputs, losses and gradients.

    python make_golden.py DIR             writes them to DIR
    python make_golden.py --check DIR     makes them anew and compares; exit status 1 where they differ
    --seed N                              other numbers: seeds start at N (10 is the seed of tests/golden)

Inputs and parameters must be equal bit for bit. What is computed from them depends on the order in which the matrix
library adds, so it is compared to 1e-12 of each tensor's largest magnitude.
"""
import argparse
import json
import os
import sys

sys.dont_write_bytecode = True

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import oracle as O

TOLERANCE = 1e-12


def csr(cells, idx, val):
    ptr = torch.tensor([0] + torch.cumsum(torch.tensor([len(c[idx]) for c in cells]), 0).tolist())
    return ptr, torch.cat([c[idx] for c in cells]).to(torch.int64), torch.cat([c[val] for c in cells])


def inputs(d, cells, p):
    t = {
        "data.gene_features": d["gene_feat"],
        "data.peak_features": d["peak_feat"],
        "data.gene_chrom": d["gene_chrom"].long(),
        "data.peak_chrom": d["peak_chrom"].long(),
        "data.label": torch.tensor([c["label"] for c in cells]),
    }
    t["data.rna_indptr"], t["data.rna_indices"], t["data.rna_values"] = csr(cells, "genes", "expr")
    t["data.atac_indptr"], t["data.atac_indices"], t["data.atac_values"] = csr(cells, "peaks", "acc")
    t.update({"param." + k: v.detach().clone() for k, v in p.items()})
    return t


def outputs(d, cells, p, heads, alpha):
    for v in p.values():
        v.grad = None
    loss, match, gen, logits, aux = O.naive(p, d, cells, alpha=alpha, heads=heads)
    loss.backward()
    t = {
        "out.loss": loss.detach().reshape(1),
        "out.match_loss": match.detach().reshape(1),
        "out.translation_loss": gen.detach().reshape(1),
        "out.logits": logits.detach(),
        "out.embedding": torch.stack([a["emb"] for a in aux]),
    }
    rows = []
    for i, a in enumerate(aux):  # sample, head, gene row, peak row
        pairs = a["A"].nonzero()
        rows.append(torch.cat([torch.full((len(pairs), 1), i), pairs], 1))
    t["out.attention_index"] = torch.cat(rows)
    t["out.attention_weight"] = torch.cat([a["A"][a["A"] != 0] for a in aux])
    t.update({f"out.translation.{i}": a["pred"] for i, a in enumerate(aux) if a["pred"] is not None})
    t.update({"grad." + k: v.grad if v.grad is not None else torch.zeros_like(v) for k, v in p.items()})
    return t


def config(**sizes):
    return {**sizes, "tau": O.TAU, "top_k": O.TOPK, "min_peaks": O.MIN_PEAKS, "dropout": 0.0}


def case(seed, *, G=80, P=300, C=5, fg=0, fp=16, de=16, H=16, heads=1, n=6, nr=40, na=120, counts=True, alpha=1.0, tweak=None):
    """One batch: what it is made of, and all that comes of it. `tweak` changes data, samples and parameters."""
    d, cells = O.random_problem(G, P, C, fg, fp, n, nr, na, seed=seed, counts=counts)
    p = O.init_params(G, P, C + fg, C + fp, de, H, heads=heads, seed=seed + 1)
    if tweak:
        tweak(d, cells, p)
    meta = config(genes=G, peaks=P, chromosomes=C, embedding_dim=de, hidden=H, heads=heads, alpha=alpha)
    return {**inputs(d, cells, p), **outputs(d, cells, p, heads, alpha)}, meta


def few(d, cells, p):
    """Six peaks in all; a chromosome with no peak; one gene and one peak; peaks of one chromosome only."""
    cells[0]["peaks"], cells[0]["acc"] = cells[0]["peaks"][:6], cells[0]["acc"][:6]
    keep = d["peak_chrom"][cells[1]["peaks"]] != 0
    cells[1]["peaks"], cells[1]["acc"] = cells[1]["peaks"][keep], cells[1]["acc"][keep]
    cells[2]["peaks"], cells[2]["acc"] = cells[2]["peaks"][:1], cells[2]["acc"][:1]
    cells[2]["genes"], cells[2]["expr"] = cells[2]["genes"][:1], cells[2]["expr"][:1]
    one = d["peak_chrom"][cells[3]["peaks"]] == 2
    cells[3]["peaks"], cells[3]["acc"] = cells[3]["peaks"][one], cells[3]["acc"][one]


def saturated(d, cells, p):
    """Large counts: many scores are 1 in float32, so the order is by logit (eq. 12)."""
    for c in cells:
        c["expr"] = c["expr"] * 40.0


def no_positives(d, cells, p):
    """Negatives only: the translation loss and its gradients are zero."""
    for c in cells:
        c["label"] = 0


def ties(d, cells, p):
    """Peaks 2i and 2i + 1 are equal in every respect, and so are their logits."""
    with torch.no_grad():
        e = p["atac_idembedding.weight"]
        e[1::2] = e[0::2]
    d["peak_feat"][1::2], d["peak_chrom"][1::2] = d["peak_feat"][0::2], d["peak_chrom"][0::2]
    for c in cells:
        c["acc"] = torch.ones_like(c["acc"])


def adam(seed, size, steps=30, lr=5e-4, decay=1e-5):
    """Thirty steps of Adam (eq. 39 and 40), `size` samples each."""
    d, cells = O.random_problem(60, 200, 4, 0, 8, 12, 30, 90, seed=seed)
    p = O.init_params(60, 200, 4, 12, 16, 16, seed=seed + 1)
    batches = [[(s * size + j) % 12 for j in range(size)] for s in range(steps)]
    t = inputs(d, cells, p)
    optimiser = torch.optim.Adam(list(p.values()), lr=lr, weight_decay=decay)
    losses = []
    for batch in batches:
        optimiser.zero_grad()
        loss = O.naive(p, d, [cells[i] for i in batch])[0]
        loss.backward()
        for v in p.values():
            if v.grad is None:
                v.grad = torch.zeros_like(v)
        optimiser.step()
        losses.append(loss.item())
    t["out.losses"] = torch.tensor(losses, dtype=torch.float64)
    t["data.batches"] = torch.tensor(batches)
    t.update({"final." + k: v.detach().clone() for k, v in p.items()})
    sizes = dict(genes=60, peaks=200, chromosomes=4, embedding_dim=16, hidden=16, heads=1, alpha=1.0)
    return t, config(**sizes, lr=lr, weight_decay=decay, beta1=0.9, beta2=0.999, eps=1e-8, dropout=0.0)


# Name, distance of its seed from the first one, and what makes it.
CASES = [
    ("counts", 1, case),
    ("binary_lognorm", 2, lambda s: case(s, counts=False)),
    ("two_heads", 3, lambda s: case(s, heads=2)),
    ("four_heads_alpha", 4, lambda s: case(s, heads=4, alpha=0.3)),
    ("few_peaks", 5, lambda s: case(s, tweak=few)),
    ("gene_features", 6, lambda s: case(s, fg=4, n=4)),
    ("wide", 7, lambda s: case(s, G=200, P=900, C=24, de=32, H=64, fp=64, n=8, nr=90, na=400)),
    ("adam_batch1", 8, lambda s: adam(s, 1)),
    ("adam_batch4", 8, lambda s: adam(s, 4)),
    ("saturated", 20, lambda s: case(s, tweak=saturated)),
    ("no_positives", 21, lambda s: case(s, tweak=no_positives)),
    ("few_peaks_two_heads", 22, lambda s: case(s, tweak=few, heads=2)),
    ("ties", 23, lambda s: case(s, counts=False, tweak=ties)),
]


def compare(path, tensors, meta):
    """Complaints about a file, how many tensors are equal bit for bit, and the largest relative distance of the others."""
    if not os.path.exists(path):
        return ["is not there"], 0, 0.0
    complaints, same, worst = [], 0, 0.0
    with safe_open(path, "pt") as file:
        if json.loads(file.metadata()["config"]) != meta:
            complaints.append("other metadata")
        if set(file.keys()) != set(tensors):
            complaints.append(f"other tensors: {sorted(set(file.keys()) ^ set(tensors))}")
        for name in sorted(set(file.keys()) & set(tensors)):
            a, b = file.get_tensor(name), tensors[name]
            if a.dtype != b.dtype or a.shape != b.shape:
                complaints.append(f"{name}: other type or shape")
            elif torch.equal(a, b):
                same += 1
            elif name.startswith(("data.", "param.")) or not a.is_floating_point():
                complaints.append(f"{name}: is to be equal, and is not")
            else:
                apart = ((a - b).abs().max() / a.abs().max()).item()
                worst = max(worst, apart)
                if not apart <= TOLERANCE:  # what is no number differs
                    complaints.append(f"{name}: apart by {apart:.1e} of its largest magnitude")
    return complaints, same, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--check", action="store_true", help="compare with the files in DIR, write nothing")
    parser.add_argument("--seed", type=int, default=10)
    args = parser.parse_args()
    bad = 0
    if not args.check:
        os.makedirs(args.dir, exist_ok=True)
    for name, offset, make in CASES:
        tensors, meta = make(args.seed + offset)
        tensors = {k: v.contiguous() for k, v in tensors.items()}
        path = os.path.join(args.dir, name + ".safetensors")
        if not args.check:
            save_file(tensors, path, metadata={"config": json.dumps(meta)})
            print(f"{path}: {len(tensors)} tensors")
            continue
        complaints, same, worst = compare(path, tensors, meta)
        bad += bool(complaints)
        print(f"{name}: {same} of {len(tensors)} tensors equal bit for bit, the others within {worst:.1e}")
        for c in complaints:
            print(f"{name}: {c}")
    if args.check:
        print(f"{len(CASES) - bad} of {len(CASES)} files agree")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
