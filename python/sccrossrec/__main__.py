"""``python -m sccrossrec``."""

import sys

from ._cli import main

sys.exit(main())
