"""What sharing saves: prompts' tokens and media's patches that were run and would have been run.

Without sharing every completion is a row of its own that runs its whole prompt, media included. The
counts are one process's and whole numbers, so they may be added up over processes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lit_vdistill.models.prompt import EncodedPrompt

_counts: dict[str, int] = {
    "prompt_tokens": 0,
    "prompt_tokens_by_row": 0,
    "vision_patches": 0,
    "vision_patches_by_row": 0,
}


def count_prompts(run: int, by_row: Iterable[EncodedPrompt]) -> None:
    """Report a forward pass over prompts, in training or before rollouts.

    Patches of `by_row` count whoever has looked at them: a row of its own would look itself.

    Args:
        run: Tokens of the prompts as they are run, each as often as it is.
        by_row: The prompt of every completion.
    """
    _counts["prompt_tokens"] += run
    for prompt in by_row:
        _counts["prompt_tokens_by_row"] += len(prompt.input_ids)
        if prompt.grid_thw is not None:
            _counts["vision_patches_by_row"] += int(prompt.grid_thw.prod(dim=-1).sum())


def count_patches(run: int) -> None:
    """Report patches that a vision tower is called on."""
    _counts["vision_patches"] += run


@contextmanager
def resting() -> Iterator[None]:
    """What runs within is not counted: checks that the work itself does not need."""
    before = dict(_counts)
    yield
    _counts.update(before)


def read() -> dict[str, int]:
    """Counts since the last call: what was run, and with `_by_row` what would have been."""
    counts = dict(_counts)
    _counts.update(dict.fromkeys(_counts, 0))
    return counts
