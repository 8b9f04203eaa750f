"""The published model with the engine's algebra, in PyTorch, for any batch: the same loss and gradients as `model.py` out of
much less work. What is left between this and the engine is engineering, not mathematics.

1. Queries and keys are projected once a batch, for the genes and peaks that occur in it.
2. Only pairs of equal chromosome are scored; of the others it is enough how many there are.
3. Feature rows are summed with the attention's weights before they are projected.
4. Translation scores the distinct (peak, accessibility) columns of a batch, tile by tile.
5. Means of constant features belong to a cell: they are computed when it is read.
6. Translation's backward pass leaves out genes whose prediction is right: cell by cell, or for the columns of the whole
   batch, whichever costs less by count.
"""
import math

import torch
import torch.nn.functional as F

from model import CrossRec

TILE = 512
# What an addition of a sparse product costs, in operations of a dense one.
SPARSE = 24


class Rows(torch.autograd.Function):
    """Rows of a table, none of them twice."""

    @staticmethod
    def forward(ctx, table, rows):
        ctx.rows, ctx.shape = rows, table.shape
        return table[rows]

    @staticmethod
    def backward(ctx, grad):
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.rows, grad), None


def sparse(rows, columns, values, shape):
    """CSR of entries in any order; entries at one place add up in a product."""
    order = rows.argsort(stable=True)
    pointer = F.pad(torch.bincount(rows, minlength=shape[0]).cumsum(0), (1, 0))
    return torch.sparse_csr_tensor(pointer, columns[order], values[order], shape)


class Bag(torch.autograd.Function):
    """Of each sample the sum of its rows of a table, times these weights."""

    @staticmethod
    def forward(ctx, table, weight, rows, pointer):
        ctx.save_for_backward(table, weight)
        ctx.rows, ctx.pointer = rows, pointer
        return F.embedding_bag(rows, table, pointer[:-1], mode="sum", per_sample_weights=weight)

    @staticmethod
    def backward(ctx, grad):
        table, weight = ctx.saved_tensors
        which = torch.arange(len(grad)).repeat_interleave(ctx.pointer.diff())
        d_table = sparse(ctx.rows, which, weight, (len(table), len(grad))) @ grad if ctx.needs_input_grad[0] else None
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                grad, table, ctx.rows, ctx.pointer[:-1], which, 0)
        return d_table, d_weight, None, None


class PairLogits(torch.autograd.Function):
    """q·k of some pairs: [genes, places] out of tables, with `at` a peak node for each place."""

    @staticmethod
    def forward(ctx, q_table, q_slope, k_table, k_slope, batch, at):
        ctx.save_for_backward(q_table, q_slope, k_table, k_slope)
        ctx.batch, ctx.at = batch, at
        out = q_table.new_empty(at.shape)
        for part in PairLogits.parts(at):
            q, k = PairLogits.nodes(q_table, q_slope, k_table, k_slope, batch, at, part)
            out[part] = (k @ q[:, :, None])[:, :, 0]
        return out

    @staticmethod
    def parts(at):
        return [slice(i, i + 8192) for i in range(0, len(at), 8192)]

    @staticmethod
    def nodes(q_table, q_slope, k_table, k_slope, b, at, part):
        at = at[part]
        q = torch.addcmul(q_table[b.gene_row[part]], b.expression[part, None], q_slope)
        k = torch.addcmul(k_table[b.peak_row[at]], b.accessibility[at][:, :, None], k_slope)
        return q, k

    @staticmethod
    def backward(ctx, grad):
        q_table, _, k_table, _ = ctx.saved_tensors
        b, at = ctx.batch, ctx.at
        dq, q = q_table.new_empty(len(at), q_table.shape[1]), q_table.new_empty(len(at), q_table.shape[1])
        for part in PairLogits.parts(at):
            q[part], k = PairLogits.nodes(*ctx.saved_tensors, b, at, part)
            dq[part] = (grad[part, None] @ k)[:, 0]
        node = torch.arange(len(at))
        of_gene = sparse(b.gene_row, node, torch.ones_like(b.expression), (len(q_table), len(at)))
        used = (grad != 0).flatten()
        node = node[:, None].expand(at.shape).flatten()[used]
        of_peak = sparse(b.peak_row[at].flatten()[used], node, grad.flatten()[used], (len(k_table), len(at)))
        of_slope = (grad * b.accessibility[at]).sum(1)
        return of_gene @ dq, b.expression @ dq, of_peak @ q, of_slope @ q, None, None


class Translation(torch.autograd.Function):
    """Sum over positives of the mean squared error over genes, of one head, divided by `samples`."""

    @staticmethod
    def forward(ctx, q, k_table, k_slope, c, model, samples):
        k = torch.addcmul(k_table[c.peak_row], c.accessibility[:, None], k_slope)
        limit = math.log(model.tau / (1 - model.tau))
        counts = q.new_zeros(c.cells, len(q))
        for i in range(0, len(k), TILE):
            on = (q @ k[i : i + TILE].T).gt_(limit).T
            counts += c.sum_over(i, on)
        off = (counts > model.min_peaks).to(q.dtype) - c.target
        ctx.save_for_backward(q, k, k_slope, off)
        ctx.c, ctx.rows, ctx.scale, ctx.way = c, len(k_table), 1 / (len(q) * samples), model.way
        return off.square().sum() * ctx.scale

    @staticmethod
    def backward(ctx, grad):
        q, k, _, off = ctx.saved_tensors
        c = ctx.c
        off = off * (2 * ctx.scale * grad)
        wrong = off != 0
        some = wrong.any(0).nonzero()[:, 0]
        each = sum(int(n) * len(columns) for n, columns in zip(wrong.sum(1), c.columns))
        three = 6 * q.shape[1]
        by_columns = c.cells > 1 and each * three > len(some) * len(k) * three + len(some) * c.products()
        if ctx.way == "columns" or (ctx.way is None and by_columns):
            dq, dk = Translation.whole(q, k, off, c, some)
        else:
            dq, dk = Translation.cell_by_cell(q, k, off, c, wrong)
        dk_table = q.new_zeros(ctx.rows, q.shape[1]).index_add_(0, c.peak_row, dk)
        return dq, dk_table, c.accessibility @ dk, None, None, None

    @staticmethod
    def slope(logits):
        s = logits.sigmoid_()
        return torch.addcmul(s, s, s, value=-1)

    @staticmethod
    def whole(q, k, off, c, some):
        few, off = q[some], off[:, some]
        dq, dk = torch.zeros_like(few), torch.empty_like(k)
        for i in range(0, len(k), TILE):
            part = k[i : i + TILE]
            d = Translation.slope(part @ few.T).mul_(c.spread_over(i, off))
            dq.addmm_(d.T, part)
            dk[i : i + TILE] = d @ few
        return torch.zeros_like(q).index_copy_(0, some, dq), dk

    @staticmethod
    def cell_by_cell(q, k, off, c, wrong):
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        for b, columns in enumerate(c.columns):
            rows = wrong[b].nonzero()[:, 0]
            few, part = q[rows], k[columns] if c.cells > 1 else k
            d_few, d_part = torch.empty_like(few), torch.zeros_like(part)
            for i in range(0, len(rows), TILE):
                d = Translation.slope(few[i : i + TILE] @ part.T).mul_(off[b, rows[i : i + TILE], None])
                d_few[i : i + TILE] = d @ part
                d_part.addmm_(d.T, few[i : i + TILE])
            dq.index_add_(0, rows, d_few)
            if c.cells > 1:
                dk.index_add_(0, columns, d_part)
            else:
                dk += d_part
        return dq, dk


class Columns:
    """The distinct (peak, accessibility) of the positives, and which positive has which."""

    def __init__(self, batch, positives, genes):
        part = [slice(batch.peak_ptr[i], batch.peak_ptr[i + 1]) for i in positives]
        rows = torch.cat([batch.peak_row[p] for p in part])
        values = torch.cat([batch.accessibility[p] for p in part])
        self.cells = len(positives)
        if bool((values == values[0]).all()):
            self.peak_row, place = rows.unique(return_inverse=True)
            self.accessibility = values[:1].expand(len(self.peak_row))
        else:
            pairs, place = torch.stack([rows.double(), values.double()]).unique(dim=1, return_inverse=True)
            self.peak_row, self.accessibility = pairs[0].long(), pairs[1].to(values.dtype)
        lengths = [p.stop - p.start for p in part]
        self.columns = place.split(lengths)
        self.target = values.new_zeros(self.cells, genes)
        for b, i in enumerate(positives):
            own = slice(batch.gene_ptr[i], batch.gene_ptr[i + 1])
            self.target[b, batch.genes[own]] = batch.expression[own]
        self.tiles = None
        if self.cells > 1:
            cell = torch.arange(self.cells).repeat_interleave(torch.tensor(lengths))
            self.tiles = list(self.tile(place, cell, values.dtype))

    def tile(self, place, cell, dtype):
        """Of each tile of columns which cells have them: dense [columns, cells], or sparse both ways."""
        order = place.argsort(stable=True)
        place, cell = place[order], cell[order]
        for i in range(0, len(self.peak_row), TILE):
            width = min(TILE, len(self.peak_row) - i)
            own = slice(*torch.searchsorted(place, torch.tensor([i, i + width])).tolist())
            column, who = place[own] - i, cell[own]
            one = torch.ones(len(who), dtype=dtype)
            if SPARSE * len(who) < 2 * width * self.cells:
                yield sparse(column, who, one, (width, self.cells)), sparse(who, column, one, (self.cells, width))
            else:
                dense = torch.zeros(width, self.cells, dtype=dtype)
                dense[column, who] = 1
                yield dense, dense.T

    def products(self):
        """Operations a gene of spreading over all columns."""
        cost = lambda m: SPARSE * len(m.values()) if m.layout == torch.sparse_csr else 2 * m.numel()
        return sum(cost(m) for m, _ in self.tiles or [])

    def sum_over(self, i, on):
        """[cells, genes]: the sum over a tile's columns that a cell has."""
        return on.sum(0, keepdim=True) if self.tiles is None else self.tiles[i // TILE][1] @ on

    def spread_over(self, i, off):
        """[columns, genes]: the sum over cells that have the column."""
        return off if self.tiles is None else self.tiles[i // TILE][0] @ off


class Batch:
    """Samples side by side, nodes by chromosome; and what of them does not depend on parameters."""

    def __init__(self, features, samples):
        self.label = torch.tensor([s.label for s in samples])
        cat = lambda name: torch.cat([getattr(s, name) for s in samples])
        self.genes, self.expression, self.peaks, self.accessibility = map(cat, ["genes", "expression", "peaks", "accessibility"])
        starts = lambda name: [0] + torch.tensor([len(getattr(s, name)) for s in samples]).cumsum(0).tolist()
        self.gene_ptr, self.peak_ptr = starts("genes"), starts("peaks")
        self.positives = [i for i, s in enumerate(samples) if s.label == 1]
        if self.positives:
            self.gene_rows, self.gene_row = torch.arange(len(features.gene)), self.genes
        else:
            self.gene_rows, self.gene_row = self.genes.unique(return_inverse=True)
        self.peak_rows, self.peak_row = self.peaks.unique(return_inverse=True)
        self.gene_mean, self.peak_mean = (torch.stack([getattr(s, n) for s in samples]) for n in ["gene_mean", "peak_mean"])
        # Of each sample its blocks of equal chromosome; of each gene node the number of peaks on other chromosomes.
        self.blocks = [s.blocks for s in samples]
        self.others = torch.cat([len(s.peaks) - s.own for s in samples])
        self.columns = Columns(self, self.positives, len(features.gene)) if self.positives else None


class Sample:
    """A sample as it is read: nodes by chromosome, and means of their constant features."""

    def __init__(self, features, genes, expression, peaks, accessibility, label):
        chrom = features.gene_chrom[genes], features.peak_chrom[peaks]
        by = chrom[0].argsort(stable=True), chrom[1].argsort(stable=True)
        self.genes, self.expression, self.peaks, self.accessibility = genes[by[0]], expression[by[0]], peaks[by[1]], accessibility[by[1]]
        self.label = label
        self.gene_mean, self.peak_mean = features.gene[genes].mean(0), features.peak[peaks].mean(0)
        self.blocks, self.own = [], torch.zeros(len(genes), dtype=torch.long)
        bound = [torch.searchsorted(c[o].contiguous(), torch.arange(features.chromosomes + 1)).tolist() for c, o in zip(chrom, by)]
        for c in range(features.chromosomes):
            g, p = (slice(b[c], b[c + 1]) for b in bound)
            if c != features.unknown and g.stop > g.start and p.stop > p.start:
                self.blocks.append((g, p))
                self.own[g] = p.stop - p.start


class Strengthened(CrossRec):
    """`CrossRec` whose loss takes a `Batch`."""

    # The way of the translation's backward pass, "columns" or "cells"; None: the cheaper one.
    way = None

    def table(self, name, embedded, features):
        """Projection without the value, and what a unit of the value adds."""
        layer = getattr(self.cross_attention_layer, name)
        dim = embedded.shape[1]
        w = layer.weight
        return torch.addmm(layer.bias, embedded, w[:, :dim].T) + features @ w[:, dim + 1 :].T, w[:, dim]

    @torch.no_grad()
    def choose(self, batch, q, k, part):
        """Of each gene node, up to `top_k` places: peak nodes by logit, -1 a pair of different chromosomes, -2 none."""
        top, n = self.top_k, len(batch.genes)
        best = q[0].new_full((n, 2 * top), -math.inf)
        at = torch.full((n, 2 * top), -1)
        best[:, top:][torch.arange(top) < batch.others[:, None]] = 0
        q_table, q_slope, k_table, k_slope = (x[..., part] for x in (*q, *k))
        for i, blocks in enumerate(batch.blocks):
            first = batch.peak_ptr[i]
            genes, peaks = slice(batch.gene_ptr[i], batch.gene_ptr[i + 1]), slice(first, batch.peak_ptr[i + 1])
            qs = torch.addcmul(q_table[batch.gene_row[genes]], batch.expression[genes, None], q_slope)
            ks = torch.addcmul(k_table[batch.peak_row[peaks]], batch.accessibility[peaks, None], k_slope).T
            best_here, at_here = best[genes], at[genes]
            for g, p in blocks:
                found = (qs[g] @ ks[:, p]).topk(min(top, p.stop - p.start), 1)
                best_here[g, : found.values.shape[1]] = found.values
                at_here[g, : found.values.shape[1]] = found.indices + (first + p.start)
        best, place = best.topk(top, 1)
        return at.gather(1, place).masked_fill(best == -math.inf, -2)

    def loss(self, features, batch):
        layer, heads = self.cross_attention_layer, self.cross_attention_layer.heads
        e_gene, e_peak = Rows.apply(self.rna_idembedding.weight, batch.gene_rows), Rows.apply(self.atac_idembedding.weight, batch.peak_rows)
        q = self.table("rna_query", e_gene, features.gene[batch.gene_rows])
        k = self.table("atac_key", e_peak, features.peak[batch.peak_rows])
        size = q[0].shape[1] // heads
        messages = [[], []]
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            at = self.choose(batch, q, k, part)
            real = at >= 0
            logit = PairLogits.apply(q[0][:, part], q[1][part], k[0][:, part], k[1][part], batch, at.clamp(min=0))
            score = torch.sigmoid(logit * real)
            weight = torch.softmax(score.masked_fill(at == -2, -math.inf), 1) * ((score > self.tau) & real)
            to_peaks = torch.zeros_like(batch.accessibility).index_add(0, at.clamp(min=0).flatten(), weight.flatten())
            to_genes = weight.sum(1)
            messages[0].append(self.bag("atac_value", part, to_peaks, batch.peak_row, batch.peaks, batch.accessibility, batch.peak_ptr,
                                        e_peak, features.peak, batch.gene_ptr))
            messages[1].append(self.bag("rna_value", part, to_genes, batch.gene_row, batch.genes, batch.expression, batch.gene_ptr,
                                        e_gene, features.gene, batch.peak_ptr))
        m_gene, m_peak = (torch.cat(m, 1) for m in messages)
        if heads > 1:
            m_gene, m_peak = layer.rna_out_proj(m_gene), layer.atac_out_proj(m_peak)
        own_gene = layer.rna_self_attention(self.mean(batch.gene_row, batch.expression, batch.gene_ptr, e_gene, batch.gene_mean))
        own_peak = layer.atac_self_attention(self.mean(batch.peak_row, batch.accessibility, batch.peak_ptr, e_peak, batch.peak_mean))
        r = layer.dim_reduction_rna(torch.cat([m_gene, own_gene], 1))
        p = layer.dim_reduction_atac(torch.cat([m_peak, own_peak], 1))
        loss = F.cross_entropy(self.head(torch.cat([r, p], 1)), batch.label)
        for h in range(heads if batch.positives else 0):
            part = slice(h * size, (h + 1) * size)
            every = q[0][:, part] + q[1][part]
            loss = loss + self.alpha / heads * Translation.apply(every, k[0][:, part], k[1][part], batch.columns, self, len(batch.label))
        return loss

    def bag(self, name, part, weight, row, node, value, ptr, embedded, features, over):
        """Rows of a side summed with these weights, projected, over the number of nodes of the other side."""
        layer, pointer = getattr(self.cross_attention_layer, name), torch.tensor(ptr)
        total = lambda x: torch.segment_reduce(x, "sum", lengths=pointer.diff())
        ids, constant = Bag.apply(embedded, weight, row, pointer), Bag.apply(features, weight, node, pointer)
        rows = torch.cat([ids, total(weight * value)[:, None], constant], 1)
        out = rows @ layer.weight[part].T + total(weight)[:, None] * layer.bias[part]
        return out / torch.tensor(over).diff()[:, None]

    def mean(self, row, value, ptr, embedded, constant):
        pointer = torch.tensor(ptr)
        lengths = pointer.diff()
        share = (1 / lengths.to(value.dtype)).repeat_interleave(lengths)
        values = torch.segment_reduce(value * share, "sum", lengths=lengths)
        return torch.cat([Bag.apply(embedded, share, row, pointer), values[:, None], constant], 1)


class Training:
    """The model and its optimiser."""

    def __init__(self, features, weights, seed=906, **constants):
        torch.manual_seed(seed)
        self.features, self.model = features, Strengthened.of(weights, features, **constants)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=5e-4, weight_decay=1e-5, fused=True)

    def step(self, samples):
        self.model.train()
        loss = self.model.loss(self.features, Batch(self.features, samples))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()
