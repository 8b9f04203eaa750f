"""The published model, as its equations are written down: one sample a step, every gene of a cell against every peak under
a dense mask, translation over all genes. Parameters have the published names, so `load_state_dict` takes what
`sccrossrec weights export` writes."""
import torch
import torch.nn.functional as F
from torch import nn


class Indicator(torch.autograd.Function):
    """x > limit; the gradient passes as if it were x."""

    @staticmethod
    def forward(ctx, x, limit):
        return (x > limit).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Features:
    """What is constant: of each gene and peak its chromosome and features, one-hot chromosome first."""

    def __init__(self, gene_chrom, peak_chrom, chromosomes, gene_extra, peak_dna, unknown=None, dtype=torch.float32):
        self.gene_chrom, self.peak_chrom = gene_chrom.long(), peak_chrom.long()
        self.chromosomes, self.unknown = chromosomes, unknown
        self.gene = torch.cat([F.one_hot(self.gene_chrom, chromosomes).to(dtype), gene_extra.to(dtype)], 1)
        self.peak = torch.cat([F.one_hot(self.peak_chrom, chromosomes).to(dtype), peak_dna.to(dtype) * 0.25], 1)

    def mask(self, genes, peaks):
        """1 where a gene and a peak share a chromosome that is known."""
        g, p = self.gene_chrom[genes], self.peak_chrom[peaks]
        same = g[:, None] == p[None, :]
        if self.unknown is not None:
            same &= (g != self.unknown)[:, None]
        return same.to(self.gene.dtype)


class CrossAttention(nn.Module):
    """Attention between the gene and the peak nodes of a cell, and the mean of both sides."""

    def __init__(self, wide_gene, wide_peak, hidden, heads):
        super().__init__()
        self.heads = heads
        self.rna_query, self.atac_key = nn.Linear(wide_gene, hidden), nn.Linear(wide_peak, hidden)
        self.rna_value, self.atac_value = nn.Linear(wide_gene, hidden), nn.Linear(wide_peak, hidden)
        if heads > 1:
            self.rna_out_proj, self.atac_out_proj = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.rna_self_attention, self.atac_self_attention = nn.Linear(wide_gene, hidden), nn.Linear(wide_peak, hidden)
        self.dim_reduction_rna, self.dim_reduction_atac = nn.Linear(2 * hidden, hidden), nn.Linear(2 * hidden, hidden)

    def split(self, x):
        """[nodes, H] to [heads, nodes, H / heads]."""
        return x.unflatten(1, (self.heads, -1)).transpose(0, 1)

    def join(self, x):
        return x.transpose(0, 1).flatten(1)

    def scores(self, x, y):
        return self.split(self.rna_query(x)) @ self.split(self.atac_key(y)).transpose(1, 2)

    def forward(self, x, y, mask, top_k, tau):
        score = torch.sigmoid(self.scores(x, y) * mask)
        best, place = score.topk(min(top_k, score.shape[2]), dim=2)
        attention = torch.zeros_like(score).scatter(2, place, torch.softmax(best, 2)) * (score > tau)
        to_genes = self.join(attention @ self.split(self.atac_value(y)))
        to_peaks = self.join(attention.transpose(1, 2) @ self.split(self.rna_value(x)))
        if self.heads > 1:
            to_genes, to_peaks = self.rna_out_proj(to_genes), self.atac_out_proj(to_peaks)
        r = self.dim_reduction_rna(torch.cat([to_genes, self.rna_self_attention(x)], 1))
        p = self.dim_reduction_atac(torch.cat([to_peaks, self.atac_self_attention(y)], 1))
        return torch.cat([r.mean(0), p.mean(0)])


class CrossRec(nn.Module):
    def __init__(self, genes, peaks, wide_gene, wide_peak, dim=256, hidden=128, heads=1, dropout=0.1, top_k=10, tau=0.8,
                 min_peaks=9, alpha=1.0):
        super().__init__()
        self.rna_idembedding, self.atac_idembedding = nn.Embedding(genes, dim), nn.Embedding(peaks, dim)
        self.cross_attention_layer = CrossAttention(dim + 1 + wide_gene, dim + 1 + wide_peak, hidden, heads)
        self.fc1, self.fc2, self.fc3 = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, hidden // 2), nn.Linear(hidden // 2, 2)
        self.dropout = nn.Dropout(dropout)
        self.top_k, self.tau, self.min_peaks, self.alpha = top_k, tau, min_peaks, alpha

    @classmethod
    def of(cls, weights, features, **constants):
        """The model that these tensors, by published name, are the parameters of."""
        dim, hidden = weights["rna_idembedding.weight"].shape[1], weights["fc1.weight"].shape[0]
        genes, peaks = weights["rna_idembedding.weight"].shape[0], weights["atac_idembedding.weight"].shape[0]
        model = cls(genes, peaks, features.gene.shape[1], features.peak.shape[1], dim, hidden, **constants)
        model.to(weights["fc1.weight"].dtype).load_state_dict(weights)
        return model

    def gene_rows(self, features, genes, expression):
        return torch.cat([self.rna_idembedding(genes), expression[:, None], features.gene[genes]], 1)

    def peak_rows(self, features, peaks, accessibility):
        return torch.cat([self.atac_idembedding(peaks), accessibility[:, None], features.peak[peaks]], 1)

    def head(self, z):
        z = self.dropout(torch.relu(self.fc1(z)))
        return self.fc3(self.dropout(torch.relu(self.fc2(z))))

    def match(self, features, s):
        x = self.gene_rows(features, s.genes, s.expression[s.genes])
        y = self.peak_rows(features, s.peaks, s.accessibility[s.peaks])
        return self.head(self.cross_attention_layer(x, y, s.mask, self.top_k, self.tau))

    def translate(self, features, s):
        """[heads, G] of 0 and 1: is the gene expressed, told by the peaks."""
        every = torch.arange(self.rna_idembedding.num_embeddings)
        x = self.gene_rows(features, every, torch.ones(len(every), dtype=features.gene.dtype))
        y = self.peak_rows(features, s.peaks, s.accessibility[s.peaks])
        passing = Indicator.apply(torch.sigmoid(self.cross_attention_layer.scores(x, y)), self.tau)
        return Indicator.apply(passing.sum(2), self.min_peaks)

    def loss(self, features, s):
        label = int(s.label)
        loss = F.cross_entropy(self.match(features, s)[None], torch.tensor([label]))
        if label == 1:
            loss = loss + self.alpha * ((self.translate(features, s) - s.expression) ** 2).mean()
        return loss
