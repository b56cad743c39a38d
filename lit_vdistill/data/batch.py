"""Samples ready for every network and every reward, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.readers.records import BadSample
from lit_vdistill.types import ScoredResponse, VideoSample


@dataclass(frozen=True, slots=True)
class Item:
    """One sample, ready for every network and every reward."""

    sample: VideoSample
    """Its boxes are in the units that the model writes."""
    prompt: EncodedPrompt
    pool: tuple[ScoredResponse, ...]
    """Teacher responses with their quality; empty when there are none."""
    view: EncodedPrompt | None = None
    """The prompt as a privileged teacher sees it; None = as the student does."""
    is_padding: bool = False
    """A copy that only keeps sharded ranks in step; not to be scored."""

    @property
    def num_tokens(self) -> int:
        """Of the longest prompt that any network reads."""
        views = () if self.view is None else (self.view,)
        return max(len(prompt.input_ids) for prompt in (self.prompt, *views))


class PromptBatch:
    """Items of one step; text-only, image and video prompts may stand side by side.

    Not a dataclass: Lightning takes those apart and casts what is in them.
    """

    def __init__(self, items: tuple[Item, ...], bad: tuple[BadSample, ...] = ()) -> None:
        """Hold items, and samples that were drawn and could not be used."""
        self.items = items
        self.bad = bad

    @property
    def prompts(self) -> tuple[EncodedPrompt, ...]:
        """The encoded prompts."""
        return tuple(item.prompt for item in self.items)

    def with_prompts(self, prompts: Sequence[EncodedPrompt]) -> "PromptBatch":
        """The same items with these prompts."""
        items = (
            replace(item, prompt=prompt) for item, prompt in zip(self.items, prompts, strict=True)
        )
        return PromptBatch(tuple(items), self.bad)

    @property
    def views(self) -> tuple[EncodedPrompt, ...]:
        """The prompts as a privileged teacher sees them."""
        return tuple(item.view or item.prompt for item in self.items)

    def without_views(self) -> "PromptBatch":
        """The same items as the student sees them alone."""
        return PromptBatch(tuple(replace(item, view=None) for item in self.items), self.bad)

    def to(self, device: torch.device | str) -> "PromptBatch":
        """The batch on a device; Lightning calls it."""
        items = (
            replace(
                item,
                prompt=item.prompt.to(device),
                view=None if item.view is None else item.view.to(device),
            )
            for item in self.items
        )
        return PromptBatch(tuple(items), self.bad)

    def __len__(self) -> int:
        """Number of usable items."""
        return len(self.items)


def collate(items: Sequence[Item | BadSample]) -> PromptBatch:
    """Put items into a batch; bad samples are carried along to be counted."""
    return PromptBatch(
        items=tuple(item for item in items if isinstance(item, Item)),
        bad=tuple(item for item in items if isinstance(item, BadSample)),
    )
