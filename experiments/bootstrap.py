"""Standard errors over videos: questions about one video are not independent."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

DRAWS = 200


class OfVideo(Protocol):
    """Something that was measured on a video."""

    @property
    def video(self) -> str:
        """Which one."""
        ...


Measured = TypeVar("Measured", bound=OfVideo)


def error_over_videos(
    items: Sequence[Measured], measure: Callable[[Sequence[Measured]], float]
) -> float:
    """Standard error of a measure, by drawing as many whole videos with replacement.

    Args:
        items: What the measure is taken of.
        measure: NaN where it is not defined; such a draw is left out.

    Returns:
        NaN where fewer than two draws are defined.
    """
    by_video: dict[str, list[Measured]] = defaultdict(list)
    for item in items:
        by_video[item.video].append(item)
    videos, rng = sorted(by_video), random.Random(0)
    values = [
        measure([item for video in rng.choices(videos, k=len(videos)) for item in by_video[video]])
        for _ in range(DRAWS)
    ]
    known = [value for value in values if not math.isnan(value)]
    return statistics.stdev(known) if len(known) > 1 else float("nan")
