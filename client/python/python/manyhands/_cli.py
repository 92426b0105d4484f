"""The command `manyhands`: scheduler, worker, and all that looks at a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit code. Workers use this interpreter for Python
    tasks unless ``--python`` or ``MANYHANDS_PYTHON`` names another."""
    from . import _core

    os.environ.setdefault("MANYHANDS_PYTHON", sys.executable)
    given = sys.argv[1:] if arguments is None else list(arguments)
    return _core.cli(["manyhands", *given])


if __name__ == "__main__":
    sys.exit(main())
