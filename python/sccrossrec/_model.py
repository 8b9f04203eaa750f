"""Runs: trained, evaluated, asked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native
from ._call import folder, run, words
from ._data import Data, as_data
from ._errors import InputError, typed

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class Model:
    """A trained run: a folder that `train` made.

    Parameters
    ----------
    path
        The folder.
    data
        The data set, where it is not where it was.
    """

    def __init__(self, path: str | os.PathLike[str], data: Data | str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path).absolute()
        if not (self.path / "run.json").exists():
            raise InputError(f"{self.path}: there is no run.json in it; give the folder that train has made")
        #: What `train` said, where this process has trained.
        self.outcome: dict[str, Any] = {}
        self._data = None if data is None else as_data(data)

    def __reduce__(self) -> tuple[Any, ...]:
        return Model, (str(self.path), None if self._data is None else str(self._data.path))

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def data(self) -> Data:
        """The data set that it was trained on."""
        if self._data is None:
            self._data = Data(self.settings["data"]["path"])
        return self._data

    @property
    def settings(self) -> dict[str, Any]:
        """All settings: ``run.json``."""
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return found

    @property
    def log(self) -> pd.DataFrame:
        """Losses and scores, a line an epoch."""
        import pandas as pd

        return pd.read_json(self.path / "log.jsonl", lines=True)

    def _words(self, verb: str, given: dict[str, Any], function: str) -> list[str]:
        own: dict[str, Any] = {"run": self.path}
        if self._data is not None and given.get("data") is None:
            own["data"] = self._data.path
        return [verb, *words(verb, {**own, **given}, function)]

    def evaluate(self, *, progress: bool = True, **flags: Any) -> dict[str, Any]:
        """How well it matches and translates, beside trivial baselines.

        Parameters
        ----------
        **flags
            Flags of ``sccrossrec evaluate``: ``part="val"``, ``no_baselines=True``, …
        """
        found: dict[str, Any] = run(self._words("evaluate", flags, "evaluate"), progress=progress)
        return found

    def _written(self, verb: str, flags: dict[str, Any], progress: bool) -> AnnData:
        import anndata

        if "out" not in flags:
            flags = {**flags, "out": f"{folder()}/{verb}.h5ad"}
        run(self._words(verb, flags, verb), progress=progress)
        return anndata.read_h5ad(flags["out"])

    def embed(self, *, progress: bool = True, **flags: Any) -> AnnData:
        """The joint embedding of every cell, in ``obsm``.

        Parameters
        ----------
        **flags
            Flags of ``sccrossrec embed``; with ``out`` the file stays.
        """
        return self._written("embed", flags, progress)

    def translate(self, *, progress: bool = True, **flags: Any) -> AnnData:
        """The RNA expected of the ATAC of every cell: cells × genes.

        Parameters
        ----------
        **flags
            Flags of ``sccrossrec translate``; with ``out`` the file stays.
        """
        return self._written("translate", flags, progress)

    def match(self, rna: Any = None, atac: Any = None, *, progress: bool = True, **flags: Any) -> pd.DataFrame:
        """Partners of cells, ranked.

        Parameters
        ----------
        rna, atac
            `Data` (made with ``prepare(…, like=model.data)``) or paths; without any, the data that it was trained on.
        **flags
            Flags of ``sccrossrec match``: ``query="atac"``, ``top=5``, …
        """
        import pandas as pd

        rna = self.data if rna is None else rna
        atac = (self.data if rna is None else rna) if atac is None else atac
        flags = {"out": f"{folder()}/match.tsv", **flags}
        own = {"run": self.path, "rna": rna, "atac": atac}
        run(["match", *words("match", {**own, **flags})], progress=progress)
        names = {"rna_cell": str, "atac_cell": str}
        return pd.read_csv(flags["out"], sep="\t", dtype=names, keep_default_na=False, na_values=["", "."])

    def attention(self, cell: str, *, last: bool = False) -> pd.DataFrame:
        """The pairs that attention passes in one cell: ``gene``, ``peak``, ``head``, ``weight``, ``score``, by falling weight.

        Parameters
        ----------
        cell
            Its barcode.
        last
            With the parameters of the last checkpoint in the place of the best.
        """
        import pandas as pd

        data = self.data
        with typed():
            gene, peak, head, weight, score = _native.attention(self.path, str(cell), data.path, last)
        names = data.genes.index.to_numpy()[gene], data.peaks.index.to_numpy()[peak]
        table = {"gene": names[0], "peak": names[1], "head": head, "weight": weight, "score": score}
        return pd.DataFrame(table).sort_values("weight", ascending=False, kind="stable", ignore_index=True)

    def links(self, **flags: Any) -> pd.DataFrame:
        """As `sccrossrec.links`."""
        return links(self, **flags)

    def add_to(self, adata: AnnData, *, translation: bool = False, progress: bool = True) -> None:
        """Writes what it says of cells into your own AnnData, by barcode.

        Every matrix of ``obsm`` that `embed` brings is added under its name. Cells that the model has not seen get NaN.

        Parameters
        ----------
        adata
            Yours; it is changed.
        translation
            Adds ``layers["sccrossrec"]``, the RNA expected of ATAC, by gene.
        """
        found = self.embed(progress=progress)
        at = found.obs_names.get_indexer(adata.obs_names)
        if not (at >= 0).any():
            raise InputError(
                f"adata: none of its {adata.n_obs} barcodes is one of the model's; "
                f"they look like {adata.obs_names[0]!r} and {found.obs_names[0]!r}"
            )
        for name, matrix in found.obsm.items():
            adata.obsm[name] = _picked(np.asarray(matrix).reshape(len(found), -1), at)
        if translation:
            expected = self.translate(progress=progress)
            rows = expected.obs_names.get_indexer(adata.obs_names)
            columns = expected.var_names.get_indexer(adata.var_names)
            if not (columns >= 0).any():
                raise InputError("adata: none of its features is a gene of the model; give the RNA")
            x = expected.X.toarray() if hasattr(expected.X, "toarray") else np.asarray(expected.X)
            adata.layers["sccrossrec"] = _picked(_picked(x, rows).T, columns).T


def _picked(x: Any, rows: Any) -> Any:
    """Rows of a matrix; NaN for those numbered -1."""
    out = np.full((len(rows), x.shape[1]), np.nan, dtype=np.float32)
    out[rows >= 0] = x[rows[rows >= 0]]
    return out


def train(
    data: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    **flags: Any,
) -> Model:
    """Trains a model.

    Ctrl-C, or the stop button of a notebook, saves and raises KeyboardInterrupt; ``resume=True`` with the same ``out`` goes on.

    Parameters
    ----------
    data
        `Data` or a path; needed but for ``resume``.
    out
        Folder of the run; without one it goes with the process.
    resume
        Go on with the run in ``out``.
    progress
        Show bars.
    **flags
        Flags of ``sccrossrec train``: ``epochs``, ``recipe``, ``device``, …; ``kernel={"attend": "mine.cu"}``.
    """
    if data is None and not resume:
        raise TypeError("train() needs data")
    out = folder() + "/run" if out is None else out
    own: dict[str, Any] = {"data": data, "out": out, "resume": resume}
    outcome = run(["train", *words("train", {**own, **flags})], progress=progress)
    model = Model(out, data)
    model.outcome = outcome
    return model


def links(
    source: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **flags: Any,
) -> pd.DataFrame:
    """Links of peaks and genes, read back from data, with a model or without.

    Parameters
    ----------
    source
        `Data`, or a `Model` (whose attention is read as well, which takes longer).
    out
        Folder for all tables; without one it goes with the process.
    **flags
        Flags of ``sccrossrec discover``.

    Returns
    -------
    ``links.tsv``, a line a pair; ``gene`` and ``peak`` are names of ``var_names``. ``attrs["sccrossrec"]`` is the folder, which
    `pl` and `report` take.
    """
    import pandas as pd

    out = Path(folder(), "links") if out is None else Path(out)
    own: dict[str, Any] = {"out": out}
    if isinstance(source, Model):
        own["run"] = source.path
        if source._data is not None:
            own["data"] = source._data.path
    elif isinstance(source, Data) or not Path(source, "run.json").exists():
        own["data"] = source
    else:
        own["run"] = source
    run(["discover", *words("discover", {**own, **flags}, "links")], progress=progress)
    found = next(p for p in (out / "links.tsv", out / "links.tsv.gz") if p.exists())
    names = {"gene": str, "peak": str, "chrom": str}
    table = pd.read_csv(found, sep="\t", dtype=names, keep_default_na=False, na_values=["", ".", "NaN"])
    table.attrs["sccrossrec"] = str(out.absolute())
    return table


def links_folder(of: Any) -> str:
    """The folder of a table that `links` returned, or a path of one."""
    attrs = getattr(of, "attrs", None)
    if attrs is None:
        return str(os.fspath(of))
    if "sccrossrec" not in attrs:
        raise InputError("the table does not know its folder any more; give the folder, or the table that links() returned")
    return str(attrs["sccrossrec"])


def report(of: Any, links: Any = None, *, out: str | os.PathLike[str], progress: bool = True, **flags: Any) -> Path:
    """A run, links, or both as one page that works without network.

    Parameters
    ----------
    of
        A `Model`, or what `links` returned.
    links
        What `links` returned, beside a model.
    out
        The page (``.html``).
    **flags
        Flags of ``sccrossrec report``.
    """
    own: dict[str, Any] = {"out": out}
    if isinstance(of, Model) and of._data is not None:
        own["data"] = of._data.path
    if links is not None:
        own["discovery"] = links_folder(links)
    first = of.path if isinstance(of, Model) else links_folder(of)
    run(["report", *words("report", {**own, **flags}), str(first)], progress=progress)
    return Path(out)
