"""What can go wrong, sorted by who can mend it. The message is the line that the program prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import _native


class Error(Exception):
    """Everything that sccrossrec ends with. ``exit_code`` is the program's."""

    exit_code = 1


class InputError(Error, ValueError):
    """A file, a field or an object is not what is needed."""


class UsageError(Error, ValueError):
    """A keyword, or several together, that cannot work."""


class FileError(Error, OSError):
    """The operating system refused."""


class KernelError(Error, ValueError):
    """A kernel source that does not compile."""


class DeviceError(Error, RuntimeError):
    """The driver or the device failed."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The device has not so much memory."""


class InternalError(Error, RuntimeError):
    """A bug of ours."""


_KINDS: dict[str, type[Error]] = {
    "input": InputError,
    "usage": UsageError,
    "file": FileError,
    "kernel": KernelError,
    "memory": DeviceMemoryError,
    "device": DeviceError,
    "internal": InternalError,
}


@contextmanager
def typed() -> Iterator[None]:
    """Raises what the library ends with as one of the classes above."""
    try:
        yield
    except _native.Error as e:
        kind, message, code = e.args
        error = _KINDS.get(kind, Error)(message)
        error.exit_code = code
        raise error from None
