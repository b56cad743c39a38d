"""How a command ends that cannot be carried out as it was given."""

import sys
from typing import NoReturn

PROG = "python -m lit_vdistill"


def refuse(reason: str) -> NoReturn:
    """Say why on stderr.

    Raises:
        SystemExit: Always, with 2.
    """
    sys.stderr.write(f"{PROG}: error: {reason}\n")
    raise SystemExit(2)
