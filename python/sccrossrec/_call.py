"""Keywords become the words of a verb; news goes to logging, progress to tqdm."""

from __future__ import annotations

import atexit
import difflib
import functools
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from . import _native
from ._errors import typed

log = logging.getLogger("sccrossrec")

#: Flags of the program that make no sense here, or that the functions set themselves.
_OWN = {"json", "quiet"}


@functools.cache
def _flags(verb: str) -> dict[str, dict[str, Any]]:
    found = _native.flags(verb)
    if found is None:
        raise ValueError(f"there is no verb {verb!r}")
    return {f["name"]: f for f in json.loads(found) if f["name"] not in _OWN}


def flags(verb: str) -> Any:
    """The keywords of a verb.

    Parameters
    ----------
    verb
        Such as ``train``, or ``plot arcs``.

    Returns
    -------
    DataFrame with the keywords as index and the columns ``default`` and ``what``.
    """
    import pandas as pd

    of = _flags(verb).values()
    index = pd.Index([f["name"].replace("-", "_") for f in of], name="keyword")
    return pd.DataFrame({"default": [f["default"] for f in of], "what": [f["help"] for f in of]}, index=index)


def _text(value: Any) -> str:
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    return repr(value) if isinstance(value, float) else str(value)


def words(verb: str, given: Mapping[str, Any], function: str | None = None) -> list[str]:
    """The words of a verb with these keywords.

    Raises
    ------
    TypeError
        Of a keyword that the verb lacks, with the nearest that it has; of a switch that is neither true nor false.
    """
    known = _flags(verb)
    function = function or verb.split()[0]
    out: list[str] = []
    for keyword, value in given.items():
        name = keyword.rstrip("_").replace("_", "-")
        flag = known.get(name)
        if flag is None:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"; did you mean {near[0].replace('-', '_')!r}?" if near else ""
            raise TypeError(f"{function}() got an unexpected keyword argument {keyword!r}{hint}")
        if value is None:
            continue
        if not flag["value"]:
            if value not in (True, False):
                raise TypeError(f"{function}(): {keyword} is a switch: give True or False, not {value!r}")
            out += [f"--{name}"] * bool(value)
        elif flag["many"] and isinstance(value, Mapping):
            out += [f"--{name}={k}={_text(v)}" for k, v in value.items()]
        elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
            each = [_text(v) for v in value]
            out += [f"--{name}={v}" for v in (each if flag["many"] else [",".join(each)])]
        else:
            out.append(f"--{name}={_text(value)}")
    return out


class _Bars:
    """A bar a stage."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.stage: str | None = None

    def at(self, stage: str, done: int, of: int) -> None:
        from tqdm.auto import tqdm

        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, tqdm(desc=stage, total=of or None, leave=False)
        self.bar.total = of or None
        self.bar.update(max(done, self.bar.n) - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = self.stage = None


def _say(line: str) -> None:
    warns = line.startswith("warning: ")
    log.log(logging.WARNING if warns else logging.INFO, "%s", line.removeprefix("warning: "))


def run(line: list[str], held: list[_native.Held] | None = None, progress: bool = True) -> Any:
    """Runs a verb and returns its result."""
    bars = _Bars()
    try:
        with typed():
            found = _native.call(line, _say, bars.at if progress else None, held or [])
    finally:
        bars.close()
    return None if found is None else json.loads(found)


def folder() -> str:
    """A folder that goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="sccrossrec-")
    atexit.register(made.cleanup)
    return made.name
