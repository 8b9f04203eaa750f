"""Pictures. Each shows itself in a notebook, and ``save("picture.png")`` writes PNG or SVG."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._call import folder, run, words
from ._model import Model, links_folder


class Picture:
    """A picture as SVG; those who have only the text can write it themselves."""

    def __init__(self, verb: str, given: dict[str, Any], keeps: Any) -> None:
        self._verb, self._given, self._keeps = verb, given, keeps
        path = Path(folder(), "picture.svg")
        run([*verb.split(), *words(verb, {**given, "out": path}, verb.split()[1])], progress=False)
        #: The picture.
        self.svg = path.read_text()

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
        given = {**self._given, **flags, "out": path, "force": True}
        run([*self._verb.split(), *words(self._verb, given, "save")], progress=False)


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


def curves(model: Any) -> Picture:
    """Loss, accuracy and error of a run by epoch."""
    return Picture("plot curves", {"run": model}, model)


def embedding(model: Any, **flags: Any) -> Picture:
    """Cells by the first two principal components of their joint embedding (``sccrossrec plot embedding``)."""
    return _of_run("plot embedding", model, flags)
