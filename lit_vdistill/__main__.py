"""The one command: `python -m lit_vdistill COMMAND …`, also installed as `lit-vdistill`."""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any

from lit_vdistill.cli.export import export
from lit_vdistill.cli.refusal import PROG
from lit_vdistill.data import tools
from lit_vdistill.evaluation import tools as evaluation_tools
from lit_vdistill.evaluation.report import report as evaluation_report
from lit_vdistill.pool import tools as pool_tools
from lit_vdistill.served.vllm_server import serve
from lit_vdistill.tracking import credit_page, judge_check
from lit_vdistill.tracking.run_page import report
from lit_vdistill.tracking.workspace import workspace


def _evaluate(args: Sequence[str] = ()) -> None:
    """Ask a student a benchmark's questions; it goes on where it was stopped (`… run --help`)."""
    from lit_vdistill.cli import evaluation

    evaluation.run(args)


TRAINING_COMMANDS = {
    "fit": "train a stage",
    "validate": "score a student on the validation split",
    "test": "the same on the test split, on which nothing is chosen",
    "predict": "answer the held-out prompts greedily",
}
TOOLS: dict[str, Any] = {
    "data": {
        "_help": "look at data before training on it",
        "check": tools.check,
        "world": tools.world,
    },
    "evaluate": {
        "_help": "benchmarks: ask a student, score, compare two, check the files",
        "run": _evaluate,
        "score": evaluation_tools.score,
        "compare": evaluation_tools.compare,
        "check": evaluation_tools.check,
        "report": evaluation_report,
    },
    "export": export,
    "pool": {
        "_help": "a teacher's responses: ask for them, score them, look at them",
        "collect": pool_tools.collect,
        "score": pool_tools.score,
        "report": pool_tools.report,
    },
    "judge": {
        "_help": "a judge of rollouts",
        "check": judge_check.check,
    },
    "report": report,
    "serve": serve,
    "show": {
        "_help": "look into a run",
        "credit": credit_page.credit,
    },
    "workspace": workspace,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a training command or a tool; tools and help start without importing torch."""
    args = list(sys.argv[1:] if argv is None else argv)
    _put_the_users_modules_last()
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return
    if args[0] == "--version":
        sys.stdout.write(f"lit-vdistill {version('lit-vdistill')}\n")
        return
    if args[:2] == ["evaluate", "run"]:
        _evaluate(args[2:])
        return
    if args[0] in TOOLS:
        _run_tool(args)
        return
    if args[0] not in TRAINING_COMMANDS:
        sys.stderr.write(f"{PROG}: unknown command '{args[0]}'{_suggest(args[0])}\n\n{_help()}")
        raise SystemExit(2)
    if {"-h", "--help"} & set(args):
        _print_options(args)
        return
    from lit_vdistill.cli.training import run

    run(args)


def _run_tool(args: list[str]) -> None:
    from jsonargparse import auto_cli, set_parsing_settings

    from lit_vdistill.cli.errors import mistakes_told

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    with mistakes_told(of=("lit_vdistill",)):
        auto_cli(TOOLS, args=_with_lists(args), as_positional=False, prog=PROG)


def _with_lists(args: Sequence[str]) -> list[str]:
    """`--runs A B` as the one argument that the parser takes for a list."""
    line: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg != "--runs":
            line.append(arg)
            continue
        named = list(takewhile(lambda one: not one.startswith("--"), rest))
        rest = rest[len(named) :]
        line.append(f"--runs={json.dumps(named)}")
    return line


def _put_the_users_modules_last() -> None:
    """Take the working directory, which `python -m` puts first, from before our packages.

    `cli` appends it once they are imported; where they lie in it themselves it stays.
    """
    here = Path.cwd()
    if Path(__file__).resolve().parents[1] != here:
        sys.path[:] = [path for path in sys.path if Path(path).resolve() != here]


def _print_options(args: Sequence[str]) -> None:
    from lit_vdistill.cli.config_files import stage_class, with_bases
    from lit_vdistill.cli.help import help_page

    stage = stage_class(with_bases(args))
    sys.stdout.write(help_page(args[0], TRAINING_COMMANDS[args[0]], stage))


def _help() -> str:
    lines = [
        f"usage: {PROG} COMMAND … | --version",
        "",
        "training (--config FILE, several merge; see fit --help):",
    ]
    lines += [f"  {name:<16} {text}" for name, text in TRAINING_COMMANDS.items()]
    lines += ["", "tools (each with --help):"]
    for name, found in TOOLS.items():
        entries = {name: found} if callable(found) else {f"{name} {k}": v for k, v in found.items()}
        lines += [
            f"  {full:<16} {(entry.__doc__ or '').splitlines()[0]}"
            for full, entry in entries.items()
            if callable(entry)
        ]
    return "\n".join([*lines, ""]) + "\n"


def _suggest(name: str) -> str:
    from difflib import get_close_matches

    close: list[Any] = get_close_matches(name, [*TRAINING_COMMANDS, *TOOLS], n=1)
    return f", did you mean '{close[0]}'?" if close else ""


if __name__ == "__main__":
    main()
