"""Paired single-cell RNA + ATAC: partners, translation, links of peaks and genes.

A verb of the program is a function here, and every keyword is a flag of that verb: ``epochs=3`` is ``--epochs 3``,
``force=True`` is ``--force``. ``docs/python.md`` has an example that runs.
"""

from . import kernels, ops, pl
from ._call import flags
from ._data import Batch, Data, check, datasets, pairs, prepare, recipes, simulate
from ._errors import (
    DeviceError,
    DeviceMemoryError,
    Error,
    FileError,
    InputError,
    InternalError,
    KernelError,
    UsageError,
)
from ._model import Model, links, report, train
from ._native import __version__

__all__ = [
    "Batch",
    "Data",
    "DeviceError",
    "DeviceMemoryError",
    "Error",
    "FileError",
    "InputError",
    "InternalError",
    "KernelError",
    "Model",
    "UsageError",
    "__version__",
    "check",
    "datasets",
    "flags",
    "kernels",
    "links",
    "ops",
    "pairs",
    "pl",
    "prepare",
    "recipes",
    "report",
    "simulate",
    "train",
]
