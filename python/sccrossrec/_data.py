"""Data sets: made, looked at, read cell by cell."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _held, _native
from ._call import folder, log, run, words
from ._errors import InputError, UsageError, typed

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_PARTS = ("none", "train", "val", "test")


class Batch(NamedTuple):
    """Pairs of RNA and ATAC."""

    #: CSR ``[n, genes]``.
    rna: Any
    #: CSR ``[n, peaks]``.
    atac: Any
    #: ``[n]``, 1 where both are of one cell.
    label: Any
    #: ``[n]``, numbers of the cells that gave the RNA.
    rna_cell: Any
    #: ``[n]``, numbers of the cells that gave the ATAC.
    atac_cell: Any


class Data:
    """A prepared data set: a folder that `prepare` made.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        #: What `prepare` said, where this process has made it.
        self.made: dict[str, Any] = {}
        with typed():
            self._cells = _native.Cells(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return Data, (str(self.path),)

    def __repr__(self) -> str:
        return f"Data({str(self.path)!r}): {len(self)} cells, {len(self.genes)} genes, {len(self.peaks)} peaks"

    def __fspath__(self) -> str:
        return str(self.path)

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def hash(self) -> str:
        """Of what it holds."""
        return self._cells.hash

    @property
    def genes(self) -> pd.DataFrame:
        """Genes by name: ``chrom``, ``tss`` (0-based, -1 where unknown)."""
        import pandas as pd

        names, chrom, tss = self._cells.genes()
        return pd.DataFrame({"chrom": chrom, "tss": tss}, index=pd.Index(names, name="gene"))

    @property
    def peaks(self) -> pd.DataFrame:
        """Peaks by name: ``chrom``, ``start``, ``end`` (0-based, half open)."""
        import pandas as pd

        names, chrom, start, end = self._cells.peaks()
        return pd.DataFrame({"chrom": chrom, "start": start, "end": end}, index=pd.Index(names, name="peak"))

    @property
    def obs(self) -> pd.DataFrame:
        """Cells by barcode, with their type and what else is known of them."""
        import pandas as pd

        columns = {n: pd.Categorical.from_codes(codes, pd.Index(cats)) for n, cats, codes in self._cells.obs()}
        return pd.DataFrame(columns, index=pd.Index(self._cells.cells(), name="cell"))

    def pair_sets(self) -> list[str]:
        """Names of the sets of pairs."""
        with typed():
            return self._cells.pair_sets()

    def pairs(self, name: str = "default") -> pd.DataFrame:
        """A set of pairs: numbers of the cells ``rna`` and ``atac``, ``label``, ``part``."""
        import pandas as pd

        with typed():
            rna, atac, label, part = self._cells.pairs(name)
        return pd.DataFrame({"rna": rna, "atac": atac, "label": label, "part": pd.Categorical.from_codes(part, pd.Index(_PARTS))})

    def rows(self, cells: Any, half: str) -> Any:
        """Cells as they are kept.

        Parameters
        ----------
        cells
            Their numbers.
        half
            ``rna`` or ``atac``.

        Returns
        -------
        CSR ``[cells, genes or peaks]`` of float32.
        """
        import scipy.sparse as sp

        cells = np.ascontiguousarray(cells, dtype=np.int64)
        ptr, indices, values = self._cells.rows(cells, half)
        out = sp.csr_matrix((values, indices, ptr), shape=(len(cells), self._width[half]), copy=False)
        out.has_sorted_indices = True
        return out

    @functools.cached_property
    def _width(self) -> dict[str, int]:
        return {"rna": len(self._cells.genes()[0]), "atac": len(self._cells.peaks()[0])}

    def batches(
        self,
        pairs: str = "default",
        part: str = "train",
        batch_size: int = 64,
        seed: int = 0,
        to: str = "numpy",
        shuffle: bool = True,
    ) -> Iterator[Batch]:
        """Batches of pairs, for a training loop.

        Parameters
        ----------
        pairs
            Name of the set.
        part
            ``train``, ``val`` or ``test``.
        batch_size
            Pairs of a batch; the last one may have fewer.
        seed
            Of the order: give the number of the epoch.
        to
            ``numpy`` (CSR of scipy) or ``torch`` (sparse CSR tensors over the same memory).
        shuffle
            Else in the order of the set.
        """
        if to not in ("numpy", "torch"):
            raise UsageError(f"to={to!r}: neither 'numpy' nor 'torch'")
        if part not in _PARTS[1:]:
            raise UsageError(f"part={part!r}: neither 'train', 'val' nor 'test'")
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size}: must be at least 1")
        with typed():
            rna, atac, label, parts = self._cells.pairs(pairs)
        own = np.flatnonzero(parts == _PARTS.index(part))
        if shuffle:
            own = np.random.default_rng(seed).permutation(own)
        return self._batches(rna, atac, label, own, batch_size, to)

    def _batches(self, rna: Any, atac: Any, label: Any, own: Any, size: int, to: str) -> Iterator[Batch]:
        for at in range(0, len(own), size):
            k = own[at : at + size]
            batch = Batch(self.rows(rna[k], "rna"), self.rows(atac[k], "atac"), label[k], rna[k], atac[k])
            yield batch if to == "numpy" else _torch(batch)


def _torch(batch: Batch) -> Batch:
    import torch

    def sparse(x: Any) -> Any:
        ptr, indices, values = (torch.from_numpy(a) for a in (x.indptr, x.indices, x.data))
        return torch.sparse_csr_tensor(ptr, indices, values, size=x.shape)

    rest = (torch.from_numpy(np.ascontiguousarray(x)) for x in batch[2:])
    return Batch(sparse(batch.rna), sparse(batch.atac), *rest)


def as_data(data: Any) -> Data:
    """A `Data` as it is, or of a path."""
    return data if isinstance(data, Data) else Data(data)


def _source(x: Any, name: str, more: Any) -> tuple[str, list[_native.Held]]:
    """The word that stands for an input, and what is held in memory for it."""
    if isinstance(x, (str, os.PathLike)):
        return os.fspath(x), []
    if not _held.is_anndata(x):
        raise TypeError(f"{name}: give an AnnData, a MuData or a path, not a {type(x).__name__}")
    if x.isbacked:
        path = _held.backed_path(x, name)
        log.info("%s: backed, taken from %s", name, path)
        return path, []
    return name, [_held.held(x, name, more)]


def prepare(
    rna: Any = None,
    atac: Any = None,
    *,
    gtf: str | os.PathLike[str] | None = None,
    cell_type: str | None = None,
    batch: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **flags: Any,
) -> Data:
    """Makes a data set of RNA and ATAC.

    Parameters
    ----------
    rna
        AnnData with counts or normalised values (cells × genes), or a path of any form that the program takes. One AnnData with
        ``var["feature_types"]``, one MuData, or one file of both, is enough.
    atac
        The same of peaks.
    gtf
        Gene annotation; needed where ``rna.var`` has no chromosome and TSS.
    cell_type
        Column of obs (``--cell-type-column``).
    batch
        Column of obs whose values are dealt out to train, validate and test as a whole (``--split batch:COLUMN``).
    out
        Folder to make; without one it goes with the process.
    progress
        Show bars.
    **flags
        Flags of ``sccrossrec prepare``; ``from_`` is ``--from``.

    Raises
    ------
    InputError
        Of data that are not what is needed, with what to do.
    """
    names = {"gtf": gtf, "cell_type_column": cell_type, "split": f"batch:{batch}" if batch else None}
    names = {k: v for k, v in names.items() if v is not None}
    for twice in names.keys() & flags.keys():
        raise TypeError(f"prepare() got {twice!r} twice")
    held: list[_native.Held] = []
    line = ["prepare"]
    more_obs = None
    if _held.is_mudata(rna):
        more_obs = rna.obs
        rna, atac = _held.modalities(rna, flags.pop("rna_modality", None), flags.pop("atac_modality", None))
    one = atac is None and rna is not None and "like" not in flags
    if one and _held.is_anndata(rna) and not rna.isbacked and "feature_types" not in rna.var:
        raise InputError("rna: has no var['feature_types'] that tells genes from peaks; give atac as well")
    for half, x in (("rna", rna), ("atac", atac)):
        if x is not None:
            path, inside = _source(x, "the data" if one else f"the {half.upper()}", more_obs)
            line.append(f"--{half}={path}")
            if one:
                line.append(f"--atac={path}")
            held += inside
    out = folder() + "/data" if out is None else os.fspath(out)
    line += words("prepare", {**names, **flags, "out": out})
    made = run(line, held, progress)
    data = Data(out)
    data.made = made
    return data


def check(data: Any, *, progress: bool = True) -> pd.DataFrame:
    """Are the data good enough? A line a finding: ``light``, ``what``, ``value``, ``reason``, ``remedy``."""
    import pandas as pd

    return pd.DataFrame(run(["check", os.fspath(data)], progress=progress)["lines"])


def pairs(data: Any, name: str, **flags: Any) -> pd.DataFrame:
    """Draws other pairs of a data set, to train and to test on (``train(pairs=name)``).

    Parameters
    ----------
    data
        `Data` or a path.
    name
        Of the pairs.
    **flags
        Flags of ``sccrossrec pairs``.
    """
    run(["pairs", *words("pairs", {"data": data, "name": name, **flags})])
    return as_data(data).pairs(name)


def simulate(out: str | os.PathLike[str] | None = None, *, progress: bool = True, **flags: Any) -> tuple[AnnData, AnnData]:
    """A small data set with planted regulation.

    Parameters
    ----------
    out
        Folder for the files; without one it goes with the process.
    **flags
        Flags of ``sccrossrec simulate``: ``cells``, ``genes``, ``peaks``, …

    Returns
    -------
    RNA and ATAC. ``uns["sccrossrec"]`` names the files beside them: ``gtf``, ``fasta``, ``truth``, …
    """
    import anndata

    out = folder() + "/simulated" if out is None else out
    made = run(["simulate", *words("simulate", {"out": out, **flags})], progress=progress)
    both = []
    for half in ("rna", "atac"):
        adata = anndata.read_h5ad(made[half])
        adata.uns["sccrossrec"] = {k: v for k, v in made.items() if isinstance(v, str)}
        both.append(adata)
    return both[0], both[1]


def datasets() -> pd.DataFrame:
    """The published data sets that ``prepare(dataset=…, from_=…)`` knows."""
    import pandas as pd

    return pd.DataFrame(run(["datasets"])).set_index("name")


def recipes() -> pd.DataFrame:
    """The named ways to train, with their settings."""
    import pandas as pd

    found = run(["recipes"])
    table = pd.json_normalize([r["config"] for r in found])
    table.insert(0, "about", [r["about"] for r in found])
    table.index = pd.Index([r["name"] for r in found], name="recipe")
    return table
