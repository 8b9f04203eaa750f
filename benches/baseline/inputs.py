"""What `cargo bench --bench against` writes: features and samples as safetensors, nothing that the engine has computed."""
import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch_geometric.data import Data

from model import Features
from strengthened import Sample


def read(path):
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, "pt") as f:
        metadata = f.metadata() or {}
    return load_file(path), metadata


class Inputs:
    """Features, and samples as rows of genes and of peaks."""

    def __init__(self, tensors, config, batches, dtype=torch.float32):
        self.tensors, self.config, self.dtype = tensors, config, dtype
        self.batches = batches
        t = tensors
        self.features = Features(t["gene_chrom"], t["peak_chrom"], config["chromosomes"], t["gene_extra"], t["peak_dna"],
                                 config.get("unknown"), dtype)
        self.label = t["label"].long()

    @classmethod
    def open(cls, path, dtype=torch.float32):
        tensors, metadata = read(path)
        return cls(tensors, json.loads(metadata["config"]), json.loads(metadata["batches"]), dtype)

    @classmethod
    def golden(cls, tensors, config):
        """Of a golden file, in float64; the one-hot that leads its features is made again from the chromosomes."""
        c = config["chromosomes"]
        t = {name: tensors[f"data.{name}"] for name in
             ["gene_chrom", "peak_chrom", "label", "rna_indptr", "rna_indices", "rna_values", "atac_indptr", "atac_indices",
              "atac_values"]}
        t["gene_extra"], t["peak_dna"] = tensors["data.gene_features"][:, c:], tensors["data.peak_features"][:, c:] * 4
        return cls(t, config, {"all": list(range(len(t["label"])))}, torch.float64)

    def constants(self):
        return {name: self.config[name] for name in ["heads", "dropout", "top_k", "tau", "min_peaks", "alpha"]}

    def row(self, side, i):
        """Indices, ascending, and values of sample `i`."""
        ptr = self.tensors[f"{side}_indptr"]
        part = slice(int(ptr[i]), int(ptr[i + 1]))
        index, order = self.tensors[f"{side}_indices"][part].long().sort()
        return index, self.tensors[f"{side}_values"][part][order].to(self.dtype)

    def sample(self, i):
        """Sample `i` for the strengthened model."""
        return Sample(self.features, *self.row("rna", i), *self.row("atac", i), int(self.label[i]))

    def graph(self, i):
        """Sample `i` in the published format."""
        return graph(self.features, *self.row("rna", i), *self.row("atac", i), int(self.label[i]))


def graph(features, genes, expression, peaks, accessibility, label):
    """A sample in the published format: dense vectors over all genes and peaks, a dense mask over those present."""
    e = torch.zeros(len(features.gene), dtype=expression.dtype)
    a = torch.zeros(len(features.peak), dtype=accessibility.dtype)
    e[genes], a[peaks] = expression, accessibility
    return Data(genes=genes, peaks=peaks, expression=e, accessibility=a, mask=features.mask(genes, peaks), label=label,
                num_nodes=len(genes) + len(peaks))
