"""Why a claim came out as it did and what it means, in words that hold for one verdict alone.

`FINDINGS.md` is written by hand, a section a claim: `## several_responses: does not hold`. The
report puts a section below its verdict, and refuses one that was written for another.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from experiments.claims import Verdict

PAGE = Path("experiments/FINDINGS.md")
_HEAD = re.compile(r"## (\w+): (.+)")


def read_findings(verdicts: Mapping[str, Verdict], page: Path = PAGE) -> dict[str, str]:
    """Texts by claim.

    Args:
        verdicts: What the results say of each claim now.
        page: The file.

    Raises:
        ValueError: For a section of no claim, of a verdict that is none or not the present one, or
            without a text; names the line.
    """
    found: dict[str, str] = {}
    name = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("## "):
            if name is not None:
                found[name] = f"{found[name]}\n{line}".strip()
            continue
        if name is not None and not found[name]:
            raise ValueError(f"{page}:{number}: {name} has no text")
        head = _HEAD.fullmatch(line)
        if head is None or head[1] not in verdicts or head[2] not in get_args(Verdict):
            raise ValueError(
                f"{page}:{number}: expected '## <id of a claim>: <verdict>', got {line!r}"
            )
        name = head[1]
        if name in found:
            raise ValueError(f"{page}:{number}: {name} has a section already")
        if head[2] != verdicts[name]:
            raise ValueError(
                f"{page}:{number}: what is said of {name} was written for '{head[2]}', and the "
                f"results now say '{verdicts[name]}': read it again, and change its head"
            )
        found[name] = ""
    if name is not None and not found[name]:
        raise ValueError(f"{page}: {name} has no text")
    return found
