"""Where prompts and their completions stand in a flat sequence."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Where a prompt and its completions stand in a flat sequence: `[prompt | c1 … cN]`."""

    start: int
    """Position of the prompt's first token."""
    prompt_length: int
    completion_lengths: tuple[int, ...]
    """Tokens of each completion; they follow the prompt and each other."""

    @property
    def stop(self) -> int:
        """Position after the last completion."""
        return self.start + self.prompt_length + sum(self.completion_lengths)


@dataclass(frozen=True, slots=True)
class Segment:
    """A prompt or a completion: tokens that see a prefix and, causally, themselves."""

    prefix: range
    """Positions of the prompt that a completion sees; empty for a prompt."""
    own: range


def segments_of(groups: Sequence[PrefixGroup]) -> list[Segment]:
    """Prompts and completions in the order in which they stand."""
    segments = []
    for group in groups:
        end = group.start + group.prompt_length
        prompt = range(group.start, end)
        segments.append(Segment(range(0), prompt))
        for length in group.completion_lengths:
            segments.append(Segment(prompt, range(end, end + length)))
            end += length
    return segments
