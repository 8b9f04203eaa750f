"""The program, as `pip` puts it on the path."""

import signal
import sys

from . import _native


def main() -> int:
    """Runs it; its exit code."""
    # Python's own handler would add a traceback: the program has one that saves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(sys.argv)
