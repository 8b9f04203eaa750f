"""Pictures. Each shows itself in a notebook, and ``save("picture.png")`` writes PNG or SVG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._call import folder, run, words
from ._model import Model, links_folder


class Picture:
    """A picture as SVG; those who have only the text can write it themselves."""

    def __init__(self, verb: str, given: dict[str, Any], keeps: Any, first: str | None = None) -> None:
        self._verb, self._given, self._keeps = verb, given, keeps
        self._first = [] if first is None else [first]
        path = Path(folder(), "picture.svg")
        self._draw({"out": path}, verb.split()[1])
        #: The picture.
        self.svg = path.read_text()

    def _draw(self, more: dict[str, Any], function: str) -> None:
        run([*self._verb.split(), *words(self._verb, {**self._given, **more}, function), *self._first], progress=False)

    def __repr__(self) -> str:
        return f"<{self._verb}: .save('picture.png')>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str], **flags: Any) -> None:
        """Writes the picture.

        Parameters
        ----------
        path
            Ends in ``.png`` or ``.svg``; a file that is there is replaced.
        **flags
            ``scale=2``: pixels a unit of a PNG.
        """
        self._draw({**flags, "out": path, "force": True}, "save")


def _of_run(verb: str, model: Any, flags: dict[str, Any]) -> Picture:
    given: dict[str, Any] = {"run": model}
    if isinstance(model, Model) and model._data is not None:
        given["data"] = model._data.path
    return Picture(verb, {**given, **flags}, model)


def arcs(links: Any, gene: str, **flags: Any) -> Picture:
    """The links of one gene as arcs along its chromosome.

    Parameters
    ----------
    links
        What `sccrossrec.links` returned, or its folder.
    gene
        Its name.
    **flags
        Flags of ``sccrossrec plot arcs``.
    """
    return Picture("plot arcs", {"discovery": links_folder(links), "gene": gene, **flags}, links)


def region(data: Any, what: str, links: Any = None, **flags: Any) -> Picture:
    """A region by cell type as a genome browser shows it: coverage, expression, gene models, links.

    Parameters
    ----------
    data
        `Data`, or its folder.
    what
        A gene, or ``chr2:70500000-70700000``.
    links
        What `sccrossrec.links` returned, or its folder; without it none are drawn.
    **flags
        Flags of ``sccrossrec plot region``.
    """
    given = {"data": data, "discovery": None if links is None else links_folder(links)}
    return Picture("plot region", {**given, **flags}, (data, links), what)


def dotplot(data: Any, genes: Sequence[str], **flags: Any) -> Picture:
    """Genes by cell type: how many cells have them, and how much of them (``sccrossrec plot dotplot``)."""
    return Picture("plot dotplot", {"data": data, "genes": genes, **flags}, data)


def umap(model: Any, **flags: Any) -> Picture:
    """Cells in the plane.

    Parameters
    ----------
    model
        `Model`, or its folder.
    **flags
        Flags of ``sccrossrec plot umap``: ``colour="batch"``, or a column, or a gene.
    """
    return _of_run("plot umap", model, flags)


def curves(model: Any) -> Picture:
    """Loss, accuracy and error of a run by epoch."""
    return Picture("plot curves", {"run": model}, model)


def embedding(model: Any, **flags: Any) -> Picture:
    """Cells by the first two principal components of their joint embedding (``sccrossrec plot embedding``)."""
    return _of_run("plot embedding", model, flags)
