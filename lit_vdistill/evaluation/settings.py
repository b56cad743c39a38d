"""What a run's answers depend on, written beside them: a run goes on under the same alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lit_vdistill.types import VideoSample

FILE = "run.json"
_PACKAGES = ("lit-vdistill", "torch", "transformers", "av", "decord2")
_BLOCKS, _BLOCK = 16, 1 << 20
"""Places of a file of weights that are looked at, and bytes at each: training moves all of them."""
_MAY_DIFFER = ("versions", "data_root", "engine")
"""Told, and no reason to begin anew."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Those of a run.

    Raises:
        FileNotFoundError: When the folder holds no run.
        ValueError: When the file is no settings.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no run of `evaluate run` (it has no {FILE})")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(settings, dict) or "benchmark" not in settings:
        raise ValueError(f"{path}: expected the settings of a run, with a 'benchmark'")
    return settings


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write them down."""
    text = json.dumps(settings, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What answers depend on and differs, a line each."""
    then, given = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key}: {then.get(key)!r} before, {given.get(key)!r} now"
        for key in sorted(then.keys() | given.keys())
        if then.get(key) != given.get(key) and key.partition(".")[0] not in _MAY_DIFFER
    ]


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Of those packages that are installed; by default, that decide what is shown and answered."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def weights_of(path: str) -> str | None:
    """A fingerprint of a student's files, of parts of each; None for a name that is no folder."""
    files = sorted(Path(path).expanduser().glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as opened:
            for place in range(_BLOCKS):
                opened.seek(max(0, size - _BLOCK) * place // (_BLOCKS - 1))
                digest.update(opened.read(_BLOCK))
    return digest.hexdigest()


def questions_of(samples: Sequence[VideoSample]) -> str:
    """A fingerprint of what is asked and of what is true."""
    digest = hashlib.blake2b(digest_size=8)
    for sample in samples:
        digest.update(repr(sample).encode("utf-8", errors="backslashreplace"))
    return digest.hexdigest()


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), json.loads(json.dumps(tree))
