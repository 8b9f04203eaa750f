"""The model of docs/model.md in float64 PyTorch, written from its equations and independent of the program.

It states the published model (sections 4.1 to 4.6, 5.1 and 5.2) twice:

  naive   node by node and pair by pair, dense; autograd makes the backward pass
  fast    the algebra of section 7: top K by chromosome blocks, pooling in front of the linear maps, translation over the
          distinct (peak, accessibility) columns of a batch; one head

Both bring back (loss, match_loss, translation_loss, logits, aux). `python oracle.py` compares them.

Eq. and section below are those of docs/model.md.
"""
import math

import torch
import torch.nn.functional as F

TAU, TOPK, MIN_PEAKS = 0.8, 10, 9  # section 1: tau, K, n0
PRE = "cross_attention_layer."


def init_params(G, P, fg, fp, de, H, heads=1, out=2, scale=1.0, seed=0, dtype=torch.float64):
    """Seeded parameters under the names of section 9.1, spread as in section 4.9. The order of draws is part of the
    golden files."""
    gen = torch.Generator().manual_seed(seed)
    p = {}

    def lin(name, o, i):
        b = 1 / math.sqrt(i)
        p[name + ".weight"] = (torch.rand(o, i, generator=gen, dtype=dtype) * 2 - 1) * b * scale
        p[name + ".bias"] = (torch.rand(o, generator=gen, dtype=dtype) * 2 - 1) * b * scale

    p["rna_idembedding.weight"] = torch.randn(G, de, generator=gen, dtype=dtype)
    p["atac_idembedding.weight"] = torch.randn(P, de, generator=gen, dtype=dtype)
    dr, da = de + 1 + fg, de + 1 + fp
    lin(PRE + "rna_query", H, dr)
    lin(PRE + "atac_key", H, da)
    lin(PRE + "rna_value", H, dr)
    lin(PRE + "atac_value", H, da)
    if heads > 1:
        lin(PRE + "rna_out_proj", H, H)
        lin(PRE + "atac_out_proj", H, H)
    lin(PRE + "rna_self_attention", H, dr)
    lin(PRE + "atac_self_attention", H, da)
    lin(PRE + "dim_reduction_rna", H, 2 * H)
    lin(PRE + "dim_reduction_atac", H, 2 * H)
    lin("fc1", H, 2 * H)
    lin("fc2", H // 2, H)
    lin("fc3", out, H // 2)
    return {k: v.requires_grad_(True) for k, v in p.items()}


def linear(p, name, x):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def head(p, x, masks=None):
    """Eq. 20. `masks`: the two dropout multipliers (eq. 21, scaled already), or None."""
    h = torch.relu(linear(p, "fc1", x))
    if masks is not None:
        h = h * masks[0]
    h = torch.relu(linear(p, "fc2", h))
    if masks is not None:
        h = h * masks[1]
    return linear(p, "fc3", h)


def nodes(p, d, c):
    """Rows x_i and y_j of a sample (eq. 3 and 4)."""
    g, e, k, a = c["genes"], c["expr"], c["peaks"], c["acc"]
    x = torch.cat([p["rna_idembedding.weight"][g], e[:, None], d["gene_feat"][g]], 1)
    y = torch.cat([p["atac_idembedding.weight"][k], a[:, None], d["peak_feat"][k]], 1)
    return x, y


def straight_through(x, t):
    """[x > t], whose gradient is that of x (section 4.6)."""
    return (x > t).to(x.dtype).detach() + x - x.detach()


def by_head(x, heads):
    """[n, H] as [heads, n, H / heads]."""
    return x.view(len(x), heads, -1).permute(1, 0, 2)


def attention(p, d, c, heads):
    """A of a sample, [heads, n_r, n_a] (eq. 5, 8 to 14; there is no chrUnknown here)."""
    x, y = nodes(p, d, c)
    q = by_head(linear(p, PRE + "rna_query", x), heads)
    k = by_head(linear(p, PRE + "atac_key", y), heads)
    same = (d["gene_chrom"][c["genes"]][:, None] == d["peak_chrom"][c["peaks"]][None, :]).to(q.dtype)
    logit = (q @ k.transpose(1, 2)) * same
    s = torch.sigmoid(logit)
    # A stable sort: of equal logits the lower peak index first (eq. 12).
    idx = torch.sort(logit.detach(), dim=-1, descending=True, stable=True).indices[..., :TOPK]
    w = torch.softmax(s.gather(-1, idx), -1)
    A = torch.zeros_like(s).scatter(-1, idx, w) * (s > TAU).to(s.dtype)  # tau >= 0.5: no masked pair passes
    return x, y, A


def naive(p, d, cells, alpha=1.0, heads=1, masks=None):
    """Loss of a batch: eq. 38 with match_weight 1, alpha, and no other terms."""
    logits, gens, aux = [], [], []
    for n, c in enumerate(cells):
        x, y, A = attention(p, d, c, heads)
        H = p[PRE + "rna_query.weight"].shape[0]
        va = by_head(linear(p, PRE + "atac_value", y), heads)
        vr = by_head(linear(p, PRE + "rna_value", x), heads)
        mr = (A @ va).permute(1, 0, 2).reshape(-1, H)  # eq. 15
        ma = (A.transpose(1, 2) @ vr).permute(1, 0, 2).reshape(-1, H)  # eq. 16
        if heads > 1:
            mr, ma = linear(p, PRE + "rna_out_proj", mr), linear(p, PRE + "atac_out_proj", ma)
        own_r, own_a = linear(p, PRE + "rna_self_attention", x), linear(p, PRE + "atac_self_attention", y)
        hr = linear(p, PRE + "dim_reduction_rna", torch.cat([mr, own_r], 1))  # eq. 17
        ha = linear(p, PRE + "dim_reduction_atac", torch.cat([ma, own_a], 1))  # eq. 18
        emb = torch.cat([hr.mean(0), ha.mean(0)])  # eq. 19
        logits.append(head(p, emb, None if masks is None else [m[n] for m in masks]))
        pred = None
        if c["label"] == 1:
            G = p["rna_idembedding.weight"].shape[0]
            xd = torch.cat([p["rna_idembedding.weight"], torch.ones(G, 1, dtype=x.dtype), d["gene_feat"]], 1)
            q = by_head(linear(p, PRE + "rna_query", xd), heads)
            k = by_head(linear(p, PRE + "atac_key", y), heads)
            counts = straight_through(torch.sigmoid(q @ k.transpose(1, 2)), TAU).sum(2)  # eq. 22
            pred = straight_through(counts, MIN_PEAKS)  # eq. 23, [heads, G]
            target = torch.zeros(G, dtype=x.dtype)
            target[c["genes"]] = c["expr"]
            gens.append(((pred - target[None]) ** 2).mean())
            pred = pred.detach()
        aux.append(dict(A=A.detach(), emb=emb.detach(), pred=pred))
    logits = torch.stack(logits)
    match = F.cross_entropy(logits, torch.tensor([c["label"] for c in cells]))  # eq. 31
    gen = sum(gens) / len(cells) if gens else torch.zeros((), dtype=logits.dtype)  # eq. 32
    return match + alpha * gen, match, gen, logits, aux


def fast(p, d, cells, alpha=1.0):
    """The same by section 7; one head. The forward pass is restated, the backward pass is autograd's."""
    E, Fg, Ep, Fp = p["rna_idembedding.weight"], d["gene_feat"], p["atac_idembedding.weight"], d["peak_feat"]
    de = E.shape[1]

    def table(name, emb, feat):  # eq. 58
        w, b = p[PRE + name + ".weight"], p[PRE + name + ".bias"]
        return emb @ w[:, :de].T + feat @ w[:, de + 1 :].T + b, w[:, de]

    qt, uq = table("rna_query", E, Fg)  # [G, H], [H]
    kt, uk = table("atac_key", Ep, Fp)  # [P, H], [H]
    logits = []
    for c in cells:
        g, e, k, a = c["genes"], c["expr"], c["peaks"], c["acc"]
        q = qt[g] + e[:, None] * uq
        kk = kt[k] + a[:, None] * uk
        r = torch.zeros(len(g), dtype=q.dtype)  # R_i and C_j of section 6.1
        cj = torch.zeros(len(k), dtype=q.dtype)
        gc, pc = d["gene_chrom"][g], d["peak_chrom"][k]
        for ch in torch.unique(gc):  # section 7.2
            gi = (gc == ch).nonzero()[:, 0]
            pj = (pc == ch).nonzero()[:, 0]
            logit = q[gi] @ kk[pj].T
            pad = min(TOPK, len(k) - len(pj))  # eq. 59
            full = torch.cat([logit, torch.zeros(len(gi), pad, dtype=logit.dtype)], 1)
            idx = torch.sort(full.detach(), dim=-1, descending=True, stable=True).indices[:, :TOPK]
            v = torch.sigmoid(full).gather(-1, idx)
            w = torch.softmax(v, -1) * (v > TAU)
            r = r.index_add(0, gi, w.sum(1))
            real = idx < len(pj)
            cj = cj.index_add(0, pj[idx[real]], w[real])
        x, y = nodes(p, d, c)
        na, nr = len(k), len(g)
        # Eq. 60 to 62.
        mr = ((cj @ y) @ p[PRE + "atac_value.weight"].T + cj.sum() * p[PRE + "atac_value.bias"]) / nr
        ma = ((r @ x) @ p[PRE + "rna_value.weight"].T + r.sum() * p[PRE + "rna_value.bias"]) / na
        own_r, own_a = linear(p, PRE + "rna_self_attention", x.mean(0)), linear(p, PRE + "atac_self_attention", y.mean(0))
        hr = linear(p, PRE + "dim_reduction_rna", torch.cat([mr, own_r]))
        ha = linear(p, PRE + "dim_reduction_atac", torch.cat([ma, own_a]))
        logits.append(head(p, torch.cat([hr, ha])))
    logits = torch.stack(logits)
    match = F.cross_entropy(logits, torch.tensor([c["label"] for c in cells]))
    positives = [c for c in cells if c["label"] == 1]
    gen = torch.zeros((), dtype=qt.dtype)
    if positives:  # section 7.4
        col = {}
        for c in positives:
            for key in zip(c["peaks"].tolist(), c["acc"].tolist()):
                col.setdefault(key, len(col))
        up = torch.tensor([k for k, _ in col])
        ua = torch.tensor([a for _, a in col], dtype=qt.dtype)
        D = torch.zeros(len(positives), len(col), dtype=qt.dtype)
        T = torch.zeros(len(positives), E.shape[0], dtype=qt.dtype)
        for b, c in enumerate(positives):
            D[b, [col[k] for k in zip(c["peaks"].tolist(), c["acc"].tolist())]] = 1
            T[b, c["genes"]] = c["expr"]
        S = torch.sigmoid((qt + uq) @ (kt[up] + ua[:, None] * uk).T)  # eq. 63, [G, U], once a batch
        pred = straight_through(D @ straight_through(S, TAU).T, MIN_PEAKS)
        gen = ((pred - T) ** 2).mean(1).sum() / len(cells)
    return match + alpha * gen, match, gen, logits, None


def random_problem(G, P, C, fg_extra, fp_extra, n_cells, nr, na, seed, counts=True, dtype=torch.float64):
    """A random data set and samples, labels 1, 0, 1, …; features as in eq. 1 and 2. The order of draws is part of the
    golden files."""
    g = torch.Generator().manual_seed(seed)

    def integers(n, below):
        return torch.randint(0, below, (n,), generator=g)

    gc, pc = integers(G, C), integers(P, C)
    oh = torch.eye(C, dtype=dtype)
    gf = torch.cat([oh[gc], torch.rand(G, fg_extra, generator=g, dtype=dtype)], 1)
    pf = torch.cat([oh[pc], integers(P * fp_extra, 5).view(P, fp_extra).to(dtype) * 0.25], 1)
    d = dict(gene_feat=gf, peak_feat=pf, gene_chrom=gc, peak_chrom=pc)
    cells = []
    for i in range(n_cells):
        genes = torch.randperm(G, generator=g)[:nr].sort().values
        peaks = torch.randperm(P, generator=g)[:na].sort().values
        expr = (integers(nr, 5) + 1).to(dtype) if counts else torch.rand(nr, generator=g, dtype=dtype) * 3 + 0.1
        acc = (integers(na, 3) + 1).to(dtype) if counts else torch.ones(na, dtype=dtype)
        cells.append(dict(genes=genes, expr=expr, peaks=peaks, acc=acc, label=int(i % 2 == 0)))
    return d, cells


def main():
    """Naive against fast: losses and gradients, each gradient by its largest magnitude."""
    worst = 0.0
    for seed in range(8):
        d, cells = random_problem(80, 300, 5, 4, 16, 6, 40, 120, seed=seed)
        p = init_params(80, 300, 9, 21, 16, 16, seed=seed + 1)
        found = []
        for f in (naive, fast):
            for v in p.values():
                v.grad = None
            out = f(p, d, cells)
            out[0].backward()
            found.append((out[0].item(), {k: v.grad.clone() for k, v in p.items()}))
        (a, ga), (b, gb) = found
        apart = max(((ga[k] - gb[k]).abs().max() / ga[k].abs().max()).item() for k in ga)
        worst = max(worst, abs(a - b) / abs(a), apart)
        print(f"seed {seed}: loss {a:.12f} and {b:.12f}, gradients apart by {apart:.1e}")
    print(f"naive and fast agree to {worst:.1e}")
    assert worst < 1e-12


if __name__ == "__main__":
    main()
