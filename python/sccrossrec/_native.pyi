import os
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Cells",
    "Error",
    "Held",
    "__version__",
    "attend",
    "attention",
    "call",
    "flags",
    "main",
    "translate",
]
__version__: str

_Column = tuple[str, str, Any, list[str] | None]
_Frame = tuple[list[str], list[_Column]]
_Sparse = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
_F32 = NDArray[np.float32]
_Rows = tuple[_F32, _F32]
_I64 = NDArray[np.int64]
_Path = str | os.PathLike[str]

class Error(Exception): ...

@final
class Held:
    def __new__(
        cls, name: str, obs: _Frame, var: _Frame, matrices: Sequence[tuple[str, str, list[NDArray[Any]]]]
    ) -> Held: ...
    @property
    def name(self) -> str: ...

@final
class Cells:
    def __new__(cls, path: _Path) -> Cells: ...
    def __len__(self) -> int: ...
    @property
    def hash(self) -> str: ...
    def rows(self, cells: _I64, half: str) -> tuple[NDArray[Any], NDArray[Any], _F32]: ...
    def pair_sets(self) -> list[str]: ...
    def pairs(self, name: str) -> tuple[_I64, _I64, NDArray[np.uint8], NDArray[np.uint8]]: ...
    def cells(self) -> list[str]: ...
    def obs(self) -> list[tuple[str, list[str], _I64]]: ...
    def genes(self) -> tuple[list[str], list[str], _I64]: ...
    def peaks(self) -> tuple[list[str], list[str], _I64, _I64]: ...

def main(argv: Sequence[str]) -> int: ...
def flags(verb: str) -> str | None: ...
def call(
    words: Sequence[str],
    on_say: Callable[[str], Any] | None = None,
    on_progress: Callable[[str, int, int], Any] | None = None,
    held: Sequence[Held] | None = None,
) -> str | None: ...
def attention(
    run: _Path, cell: str, data: _Path | None = None, last: bool = False, allow_missing: bool = False
) -> tuple[_I64, _I64, NDArray[np.uint8], _F32, _F32]: ...
def translate(queries: _Rows, keys: _Rows, peaks: _Sparse, spec: tuple[int, float, int], grad: _F32 | None = None) -> Any: ...
def attend(
    queries: _Rows,
    keys: _Rows,
    nodes: tuple[_Sparse, _Sparse],
    chromosomes: tuple[list[int], list[int]],
    spec: tuple[int, int, float, int | None],
) -> tuple[_F32, _F32, tuple[NDArray[Any], ...]]: ...
