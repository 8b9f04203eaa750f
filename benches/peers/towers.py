"""Networks in PyTorch: two towers trained to find partners, perceptrons that tell expression, and both at once.

Each function takes `Cells` and returns what `common.rows_of` scores. Training stops by validation cells, or goes on to the end
where it says so.
"""
import time

import numpy as np
import scipy.sparse as sp
from common import foscttm
from sklearn.preprocessing import normalize


def torch_now(cells):
    """torch, on one thread, seeded; and the processor seconds that importing it took."""
    begun = time.process_time()
    import torch
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(cells.seed)
    return torch, time.process_time() - begun


def bag(torch, x, q, drop=0.0):
    """Rows q of a CSR matrix as input of EmbeddingBag; entries left out at the rate `drop`."""
    x = x[q]
    w = torch.tensor(x.data)
    if drop:
        w = w * (torch.rand_like(w) > drop) / (1 - drop)
    return torch.tensor(x.indices.astype(np.int64)), torch.tensor(x.indptr[:-1].astype(np.int64)), w


def atac_input(cells):
    """TF-IDF of the peaks, rows of length 3."""
    return normalize(cells.tfidf()).tocsr() * np.float32(3)


def two_towers(cells, a, b, batch, epochs, patience, hidden=256, out=64, drop=0.3, rate=1e-3, decay=1e-2):
    """Towers of one hidden layer on the rows of a (RNA) and b (ATAC), dense or CSR, with the cosine, a learned temperature and
    cross-entropy among the cells of a batch. The epoch is chosen by FOSCTTM of the validation cells."""
    torch, imports = torch_now(cells)
    nn, f = torch.nn, torch.nn.functional
    rng = np.random.default_rng(cells.seed)

    class Tower(nn.Module):
        def __init__(self, x):
            super().__init__()
            self.sparse = sp.issparse(x)
            if self.sparse:
                self.first = nn.EmbeddingBag(x.shape[1], hidden, mode="sum")
                self.first.weight.data.mul_(5 * x.shape[1] ** -0.5)
            else:
                self.first = nn.Sequential(nn.Dropout(drop), nn.Linear(x.shape[1], hidden))
            self.rest = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(drop), nn.Linear(hidden, out))

        def forward(self, x, q):
            if self.sparse:
                i, o, w = bag(torch, x, q, 0.5 if self.training else 0)
                h = self.first(i, o, per_sample_weights=w)
            else:
                h = self.first(torch.tensor(x[q]))
            return f.normalize(self.rest(h), dim=1)

    towers = nn.ModuleList([Tower(a), Tower(b)])
    scale = nn.Parameter(torch.tensor(2.0))
    optimiser = torch.optim.AdamW([*towers.parameters(), scale], rate, weight_decay=decay)

    def embed(q):
        towers.eval()
        with torch.no_grad():
            return towers[0](a, q).numpy(), towers[1](b, q).numpy()

    best, waited, everyone = np.inf, 0, np.arange(len(cells.y))
    for epoch in range(epochs):
        towers.train()
        order = rng.permutation(cells.tr)
        for i in range(0, len(order) - batch // 2, batch):
            q = order[i:i + batch]
            s, target = towers[0](a, q) @ towers[1](b, q).T * scale.exp(), torch.arange(len(q))
            loss = (f.cross_entropy(s, target) + f.cross_entropy(s.T, target)) / 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        u, v = embed(cells.va)
        now = foscttm(u @ v.T)
        if now < best:
            best, waited, kept = now, 0, (epoch + 1, embed(everyone))
        else:
            waited += 1
            if waited >= patience:
                break
    epoch, (u, v) = kept
    va, te = cells.va, cells.te
    return {"scores": (u[va] @ v[va].T, u[te] @ v[te].T), "z": {"joint": np.hstack([u, v]), "atac": v},
            "chosen": {"epoch": epoch, "of": epochs}, "imports": imports}


def towers_on_components(cells):
    a, b = cells.both()
    return two_towers(cells, a, b, batch=min(512, len(cells.tr) // 2), epochs=60, patience=8)


def towers_on_all(cells):
    """All genes (log) and all peaks (TF-IDF), each with its depth as one more input."""
    a = sp.csr_matrix(np.hstack([cells.L, cells.rna_depth()]))
    b = sp.hstack([atac_input(cells), cells.atac_depth()]).tocsr().astype(np.float32)
    return two_towers(cells, a, b, batch=64, epochs=14 if len(cells.tr) >= 2000 else 40, patience=4)


def perceptron(cells, forward_input, build, epochs, patience, rate=1e-3, decay=1e-4, batch=128):
    """Trains build(torch) -> network to tell log expression by squared error; the epoch is chosen by validation cells."""
    torch, imports = torch_now(cells)
    rng, tr, log = np.random.default_rng(cells.seed), cells.tr, torch.tensor(cells.L)
    net = build(torch)
    last = [m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.bias.data = log[tr].mean(0)
    torch.nn.init.normal_(last.weight, std=0.01)
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)

    def tell(q):
        net.eval()
        with torch.no_grad():
            return np.vstack([net(forward_input(torch, q[i:i + 512], False)).numpy() for i in range(0, len(q), 512)])

    best, waited = np.inf, 0
    for epoch in range(epochs):
        net.train()
        order = rng.permutation(tr)
        for i in range(0, len(order), batch):
            q = order[i:i + batch]
            loss = ((net(forward_input(torch, q, True)) - log[q]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        now = ((np.maximum(tell(cells.va), 0) - cells.L[cells.va]) ** 2).mean()
        if now < best:
            best, waited, kept = now, 0, (epoch + 1, tell(cells.te))
        else:
            waited += 1
            if waited >= patience:
                break
    return {"expression": kept[1], "chosen": {"epoch": kept[0], "of": epochs}, "imports": imports}


def mlp_on_lsi(cells):
    """LSI and depth -> 256 -> 64 -> genes."""
    x, genes = np.hstack([cells.standard(cells.lsi()), cells.atac_depth()]), cells.L.shape[1]

    def build(torch):
        nn = torch.nn
        return nn.Sequential(nn.Dropout(0.3), nn.Linear(x.shape[1], 256), nn.LayerNorm(256), nn.ReLU(), nn.Dropout(0.3),
                             nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, genes))

    return perceptron(cells, lambda torch, q, _: torch.tensor(x[q]), build, epochs=40, patience=4)


def babel_like(cells):
    """All peaks (TF-IDF) and depth -> 256 -> 64 -> genes. BABEL itself: an autoencoder of both, negative binomial, by chromosome."""
    x, depth, genes = normalize(cells.tfidf()).tocsr(), cells.atac_depth(), cells.L.shape[1]

    def build(torch):
        nn = torch.nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.peaks = nn.EmbeddingBag(x.shape[1], 256, mode="sum")
                self.peaks.weight.data.mul_(0.05)
                self.depth = nn.Linear(1, 256)
                self.rest = nn.Sequential(nn.LayerNorm(256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 64), nn.ReLU(),
                                          nn.Linear(64, genes))

            def forward(self, given):
                (i, o, w), d = given
                return self.rest(self.peaks(i, o, per_sample_weights=w) + self.depth(d))
        return Net()

    def given(torch, q, training):
        return bag(torch, x, q, 0.3 if training else 0), torch.tensor(depth[q])

    return perceptron(cells, given, build, epochs=60, patience=4, decay=1e-2)


def towers_with_depth_apart(cells, hidden=128, out=64, deep=8, batch=256, epochs=20, rate=3e-3, drop=0.3, average=0.998):
    """Our own design in PyTorch, not a peer: two towers on all genes and peaks whose vectors have a block that only depth sets,
    with a head on the ATAC tower that tells expression. One schedule (cosine), no choice by validation cells; weights are
    averaged over steps."""
    torch, imports = torch_now(cells)
    nn, f = torch.nn, torch.nn.functional
    tr, batch = cells.tr, min(batch, len(cells.tr) // 4)
    a, b, da, db = sp.csr_matrix(cells.L), atac_input(cells), cells.rna_depth(), cells.atac_depth()
    log, genes = torch.tensor(cells.L), cells.L.shape[1]
    variance = float(cells.L[tr].var(0).mean())

    class Tower(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.first = nn.EmbeddingBag(n, hidden, mode="sum")
            self.first.weight.data.mul_(0.05)
            self.norm, self.last, self.drop = nn.LayerNorm(hidden), nn.Linear(hidden, out), nn.Dropout(drop)
            self.depth = nn.Sequential(nn.Linear(1, 16), nn.GELU(), nn.Linear(16, deep))
            self.weight = nn.Parameter(torch.tensor(-0.725))

        def forward(self, x, d):
            h = self.drop(f.gelu(self.norm(self.first(x[0], x[1], per_sample_weights=x[2]))))
            v = torch.cat([f.normalize(self.last(h), dim=1), f.normalize(self.depth(d), dim=1) * self.weight.exp()], 1)
            return f.normalize(v, dim=1), h

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(hidden, 64), nn.Linear(65, genes)
            self.last.bias.data = log[tr].mean(0)
            nn.init.normal_(self.last.weight, std=0.01)

        def forward(self, h, d):
            return self.last(torch.cat([f.relu(self.first(h)), d], 1))

    net = nn.ModuleList([Tower(a.shape[1]), Tower(b.shape[1]), Head()])
    scale = nn.Parameter(torch.tensor(2.3))
    weights = [*net.parameters(), scale]
    optimiser = torch.optim.AdamW(weights, rate, weight_decay=1e-2)
    averages = [p.detach().clone() for p in weights]
    rng, step, steps = np.random.default_rng(cells.seed), 0, epochs * (len(tr) // batch)
    for _ in range(epochs):
        order = rng.permutation(tr)
        for i in range(0, len(order) - batch + 1, batch):
            q = order[i:i + batch]
            for group in optimiser.param_groups:
                group["lr"] = rate * (0.5 + 0.5 * np.cos(np.pi * step / steps)) * min(1, (step + 1) / 100)
            d = torch.tensor(db[q])
            u, _ = net[0](bag(torch, a, q, 0.5), torch.tensor(da[q]))
            v, h = net[1](bag(torch, b, q, 0.5), d)
            s, target = u @ v.T * scale.exp().clamp(max=100), torch.arange(len(q))
            loss = (f.cross_entropy(s, target) + f.cross_entropy(s.T, target)) / 2
            loss = loss + ((net[2](h, d) - log[q]) ** 2).mean() / variance
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(averages, [p.data for p in weights], 1 - min(average, (1 + step) / (10 + step)))
    for p, mean in zip(weights, averages):
        p.data = mean
    net.eval()
    everyone, te, va = np.arange(len(cells.y)), cells.te, cells.va
    with torch.no_grad():
        u, v = (net[m](bag(torch, x, everyone), torch.tensor(d))[0].numpy() for m, x, d in ((0, a, da), (1, b, db)))
        told = net[2](net[1](bag(torch, b, te), torch.tensor(db[te]))[1], torch.tensor(db[te])).numpy()
    # the block of depth is for partners, not for what a cell is
    kind_u, kind_v = (x[:, :out] / np.linalg.norm(x[:, :out], axis=1, keepdims=True) for x in (u, v))
    return {"scores": (u[va] @ v[va].T, u[te] @ v[te].T), "expression": told,
            "z": {"joint": np.hstack([kind_u, kind_v]), "atac": kind_v}, "chosen": {"epoch": epochs, "of": epochs},
            "imports": imports}
