"""Prepares samples in the published format: one file a sample, with dense expression vectors and a dense mask.

    python graphs.py --data DIR [--samples samples.tsv] [--limit N] --out DIR

DIR holds `rna.h5ad` and `atac.h5ad` or the NeurIPS-2021 names, and a FASTA of the peaks where there is one. The samples are
those of the table (RNA barcode, ATAC barcode, label, part), or the first cells, each with itself and with another cell at
random. Prints seconds, cells a second, peak memory and bytes a sample as JSON.
"""
import argparse
import json
import pathlib
import random
import re
import resource
import time

import h5py
import numpy
import torch

from inputs import graph
from model import Features

NAMES = {
    "rna": ["rna.h5ad", "neurips2021_multiome_scRNA.h5ad"],
    "atac": ["atac.h5ad", "neurips2021_multiome_scATAC.h5ad"],
    "fasta": ["peaks.fa", "NeurIPS2021_peak_output.fa"],
}
UNKNOWN = "chrUnknown"
BASES = numpy.zeros(256, numpy.uint8)
for code, pair in enumerate(["Aa", "Tt", "Gg", "Cc"], 1):
    for letter in pair:
        BASES[ord(letter)] = code


def find(folder, what):
    return next((folder / name for name in NAMES[what] if (folder / name).exists()), None)


def texts(array):
    return [x.decode() if isinstance(x, bytes) else str(x) for x in array]


class Modality:
    """A .h5ad whose X is read row by row: CSR or dense."""

    def __init__(self, path):
        self.file = h5py.File(path, "r")
        self.x = self.file["X"]
        self.sparse = isinstance(self.x, h5py.Group)
        if self.sparse and self.x.attrs["encoding-type"] != "csr_matrix":
            raise SystemExit(f"{path}: X is neither CSR nor dense")
        self.indptr = self.x["indptr"][:] if self.sparse else None
        self.cells, self.names = self.index("obs"), self.index("var")
        self.place = {name: i for i, name in enumerate(self.cells)}

    def index(self, frame):
        return texts(self.file[frame][self.file[frame].attrs["_index"]][:])

    def column(self, frame, name):
        c = self.file[frame].get(name)
        if c is None:
            return None
        if isinstance(c, h5py.Group):
            categories = texts(c["categories"][:])
            return [categories[code] if code >= 0 else "" for code in c["codes"][:]]
        return texts(c[:])

    def chromosomes(self):
        known = self.column("var", "chrom")
        if known is None:
            parsed = (re.fullmatch(r"(.+?)[-:_](\d+)[-_](\d+)", name) for name in self.names)
            known = [m.group(1) if m else "" for m in parsed]
        return [c or UNKNOWN for c in known]

    def row(self, barcode):
        """Columns, ascending, and values of a cell, zeros left out."""
        i = self.place[barcode]
        if self.sparse:
            part = slice(self.indptr[i], self.indptr[i + 1])
            index, value = self.x["indices"][part], self.x["data"][part]
            order = index.argsort()
            index, value = index[order], value[order]
        else:
            value = self.x[i]
            index = numpy.arange(len(value))
        kept = value != 0
        return torch.from_numpy(index[kept].astype(numpy.int64)), torch.from_numpy(value[kept].astype(numpy.float32))


def bases(path, peaks, length=256):
    """[peaks, 256] codes, by header chrom:start-end where all headers have that form, else by place."""
    out = numpy.zeros((len(peaks), length), numpy.uint8)
    if path is None:
        return out[:, :0]
    place = {re.sub(r"^(.+?)[-:_](\d+)[-_](\d+)$", r"\1:\2-\3", name): i for i, name in enumerate(peaks)}
    records = []
    with open(path, "rb") as f:
        for record in f.read().split(b">")[1:]:
            header, _, sequence = record.partition(b"\n")
            sequence = numpy.frombuffer(sequence.replace(b"\n", b"")[:length], numpy.uint8)
            records.append((header.split()[0].decode(), BASES[sequence]))
    named = all(re.fullmatch(r".+:\d+-\d+", header) for header, _ in records)
    if not named and len(records) != len(peaks):
        raise SystemExit(f"{path}: {len(records)} sequences for {len(peaks)} peaks")
    for i, (header, codes) in enumerate(records):
        i = place.get(header) if named else i
        if i is not None:
            out[i, : len(codes)] = codes
    return out


class Raw:
    """The two files and the FASTA, opened."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.rna, self.atac = Modality(find(folder, "rna")), Modality(find(folder, "atac"))
        genes, peaks = self.rna.chromosomes(), self.atac.chromosomes()
        order = list(dict.fromkeys(genes + peaks))
        number = {name: i for i, name in enumerate(order)}
        dna = bases(find(folder, "fasta"), self.atac.names)
        chrom = [torch.tensor([number[c] for c in side]) for side in (genes, peaks)]
        self.tensors = {"gene_chrom": chrom[0], "peak_chrom": chrom[1], "peak_dna": torch.from_numpy(dna),
                        "gene_extra": torch.zeros(len(genes), 0)}
        self.config = {"chromosomes": len(order), "unknown": number.get(UNKNOWN)}
        self.features = features(self.tensors, self.config)

    def sample(self, rna, atac, label):
        return graph(self.features, *self.rna.row(rna), *self.atac.row(atac), label)


def features(tensors, config):
    t = tensors
    return Features(t["gene_chrom"], t["peak_chrom"], config["chromosomes"], t["gene_extra"], t["peak_dna"], config["unknown"])


def table(path):
    """RNA barcode, ATAC barcode, label and part of each sample."""
    with open(path) as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    return [(rna, atac, int(label), part) for rna, atac, label, part in rows[1:]]


def drawn(raw, limit):
    """Each cell with itself, then with another: all training."""
    cells = [c for c in raw.rna.cells if c in raw.atac.place]
    draw, out = random.Random(906), []
    for cell in cells[: -(-limit // 2)]:
        out += [(cell, cell, 1, "train"), (cell, draw.choice(cells), 0, "train")]
    return out[:limit]


def prepare(folder, out, samples=None, limit=None):
    """Writes the graphs; returns what it took."""
    began = time.perf_counter()
    raw = Raw(folder)
    opened = time.perf_counter() - began
    out = pathlib.Path(out)
    (out / "samples").mkdir(parents=True, exist_ok=True)
    torch.save({"tensors": raw.tensors, "config": raw.config}, out / "features.pt")
    listed = samples if samples is not None else drawn(raw, limit or 2 * len(raw.rna.cells))
    listed = listed[:limit]
    parts, size = [], 0
    began = time.perf_counter()
    for i, (rna, atac, label, part) in enumerate(listed):
        path = out / "samples" / f"{i}.pt"
        torch.save(raw.sample(rna, atac, label), path)
        size += path.stat().st_size
        parts.append([label, part])
    seconds = time.perf_counter() - began
    (out / "samples.json").write_text(json.dumps(parts))
    negatives = sum(1 - label for label, _ in parts)
    cells = max(len(parts) - negatives, 1)
    return {"samples": len(parts), "positives": cells, "negatives": negatives, "seconds_opening": opened, "seconds": seconds,
            "samples_per_second": len(parts) / seconds, "cells_per_second": cells / seconds,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "bytes": size, "bytes_per_sample": size / max(len(parts), 1)}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--data", required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--samples", help="table: rna, atac, label, part")
    options.add_argument("--limit", type=int)
    options = options.parse_args()
    samples = table(options.samples) if options.samples else None
    print(json.dumps(prepare(options.data, options.out, samples, options.limit)))


if __name__ == "__main__":
    main()
