"""What loggers show beside curves: a table of rollouts with the frames they speak of, and pages."""

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import Logger, WandbLogger
from PIL import Image, ImageDraw

from lit_vdistill.tracking.trackio_logger import TrackioLogger
from lit_vdistill.tracking.workspace import CREDIT, ROLLOUTS

MediaLogger = WandbLogger | TrackioLogger
"""Takes tables, pictures and pages, by the same calls."""
_HEIGHT, _MOST, _LINE = 96, 8, 14
"""Pixels of a frame, frames of a strip, pixels of the line with times."""


def filmstrip(
    frames: UInt8[np.ndarray, "time height width 3"], times_s: Sequence[float]
) -> Image.Image:
    """Frames side by side, each over its time in seconds.

    Args:
        frames: Of one size; of more than eight, eight are shown, the first and the last among them.
        times_s: One a frame.

    Raises:
        ValueError: Without frames, or when times are not as many as frames.
    """
    count, height, width = frames.shape[:3]
    if not count or len(times_s) != count:
        raise ValueError(
            f"filmstrip: expected a time for each of one frame or more, got {count} frames and "
            f"{len(times_s)} times"
        )
    chosen = np.linspace(0, count - 1, min(count, _MOST)).round().astype(int).tolist()
    each = max(1, round(width * _HEIGHT / height))
    strip = Image.new("RGB", (each * len(chosen), _HEIGHT + _LINE), "white")
    draw = ImageDraw.Draw(strip)
    for place, index in enumerate(chosen):
        frame = Image.fromarray(frames[index]).resize((each, _HEIGHT))
        strip.paste(frame, (place * each, 0))
        draw.text((place * each + 2, _HEIGHT + 1), f"{times_s[index]:.1f} s", fill="black")
    return strip


def log_rollouts(
    loggers: Iterable[MediaLogger],
    rows: Sequence[Mapping[str, Any]],
    strips: Mapping[str, Image.Image],
    step: int,
) -> None:
    """Log a table of rollouts.

    Args:
        loggers: Who shows it.
        rows: One a rollout, with the same columns; `sample` names the strip.
        strips: By sample; one without a medium has none.
        step: Optimizer step.
    """
    for logger in loggers:
        image = _media_of(logger).Image
        shown = {name: image(strip) for name, strip in strips.items()}
        data = [[shown.get(row["sample"]), *row.values()] for row in rows]
        logger.log_table(ROLLOUTS, columns=["frames", *rows[0]], data=data, step=step)


def log_page(loggers: Iterable[MediaLogger], page: str, step: int) -> None:
    """Log a page about the credit of a rollout's tokens; nothing is added to it.

    Args:
        loggers: Who shows it.
        page: HTML.
        step: Optimizer step.
    """
    for logger in loggers:
        shown = _media_of(logger).Html(page, inject=False)
        logger.log_metrics({CREDIT: shown}, step=step)  # type: ignore[dict-item]


def that_show_media(loggers: Iterable[Logger]) -> list[MediaLogger]:
    """Those of a run's loggers that take more than numbers."""
    return [logger for logger in loggers if isinstance(logger, MediaLogger)]


def _media_of(logger: MediaLogger) -> ModuleType:
    """Whose `Image` and `Html` a logger takes; imported late, which takes a second."""
    if isinstance(logger, TrackioLogger):
        import trackio

        return trackio
    import wandb

    return wandb
