"""The GPU kernels: listed, compared with the CPU, measured."""

from __future__ import annotations

import builtins
import os
from typing import TYPE_CHECKING, Any

from ._call import run, words

if TYPE_CHECKING:
    import pandas as pd


def list() -> pd.DataFrame:  # noqa: A001
    """Every kernel: ``op``, ``entry``, ``variant``, ``source``, ``precision``, …"""
    import pandas as pd

    return pd.DataFrame(run(["kernels", "list"])["kernels"])


def _file(file: Any) -> builtins.list[str]:
    return [] if file is None else [os.fspath(file)]


def check(file: str | os.PathLike[str] | None = None, op: str | None = None, **flags: Any) -> dict[str, Any]:
    """Compares kernels with the CPU op, number by number.

    Parameters
    ----------
    file
        ``.cu``, ``.ptx``, ``.cubin``, or the name of a variant; without one the built-in kernels.
    op
        The op that it belongs to.
    **flags
        Flags of ``sccrossrec kernels check``: ``on="host"`` needs no GPU.
    """
    line = words("kernels check", {"op": op, **flags}, "check")
    found: dict[str, Any] = run(["kernels", "check", *line, *_file(file)])
    return found


def bench(file: str | os.PathLike[str] | None = None, *, op: str, **flags: Any) -> dict[str, Any]:
    """Measures kernels beside the built-in ones.

    Parameters
    ----------
    file
        As of `check`.
    op
        The op.
    **flags
        Flags of ``sccrossrec kernels bench``.
    """
    line = words("kernels bench", {"op": op, **flags}, "bench")
    found: dict[str, Any] = run(["kernels", "bench", *line, *_file(file)])
    return found
