"""From a record to tensors: one item a sample, one batch of items."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from transformers import ProcessorMixin

from lit_vdistill.data.arena import Arena
from lit_vdistill.media.video import MediaError, MediaReader
from lit_vdistill.models.prompt import EncodedPrompt, encode_prompt
from lit_vdistill.models.tokens import spelt_out
from lit_vdistill.pool.quality import score_responses
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.schema import behind_end
from lit_vdistill.responses.prompts import PromptTemplate, render_messages
from lit_vdistill.types import (
    Envelope,
    Medium,
    ScoredResponse,
    Source,
    Task,
    TeacherResponse,
    VideoSample,
)

BoxUnits = Literal["pixels", "thousandths"]
_ITEM_BYTES = 4096
"""What a kept item takes beside its tensors' values: records, responses, the tensors themselves."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample, ready for every network and every reward."""

    sample: VideoSample
    """Its boxes are in the units that the model writes."""
    prompt: EncodedPrompt
    pool: tuple[ScoredResponse, ...]
    """Teacher responses with their quality; empty when there are none."""
    is_padding: bool = False
    """A copy that only keeps sharded ranks in step; not to be scored."""


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

    def to(self, device: torch.device | str) -> "PromptBatch":
        """The batch on a device; Lightning calls it."""
        return self.with_prompts([prompt.to(device) for prompt in self.prompts])

    def __len__(self) -> int:
        """Number of usable items."""
        return len(self.items)


@dataclass(frozen=True)
class PromptConfig:
    """How a question is put and how boxes are written."""

    template: str = "grounded"
    """`grounded` (states the grammar), `short` (the bare question), or a YAML file with the keys
    `name`, `system` and `instructions` (a text by task)."""
    box_units: BoxUnits = "pixels"
    """Units of boxes in text: `pixels` of the frame the model sees (Qwen2.5-VL), or `thousandths`
    of width and height (Qwen3-VL)."""
    envelope: Envelope = "strict"
    """How responses are taken apart for rewards, qualities, judge and scores: `strict`, one think
    and one answer block and nothing else, or `lenient` as VISD's release, see `parse_response`."""


class PromptDataset(Dataset[Item | BadSample]):
    """Samples of one split with their media and teacher responses."""

    def __init__(
        self,
        samples: Sequence[VideoSample],
        pools: Mapping[str, tuple[TeacherResponse, ...]],
        reader: MediaReader,
        processor: ProcessorMixin,
        template: PromptTemplate,
        box_units: BoxUnits,
        memory_gib: float = 0.0,
        max_overshoot_s: float = math.inf,
    ) -> None:
        """Join what is given; nothing is read before an item is asked for.

        Args:
            samples: Records of the split.
            pools: Teacher responses by sample id.
            reader: Reads their media.
            processor: Encodes prompts.
            template: The words around a question.
            box_units: Units of boxes in text.
            memory_gib: Encoded samples are kept in memory up to this size; the pixels of a medium
                are kept once, however many questions are asked about it.
            max_overshoot_s: Evidence that lies further behind the last frame makes a bad sample.
        """
        self.samples = samples
        self.pools = pools
        self.reader = reader
        self.processor = processor
        self.template = template
        self.box_units: BoxUnits = box_units
        self.max_overshoot_s = max_overshoot_s
        self._arena = Arena(int(memory_gib * 2**30))
        self._items: dict[int, Item] = {}
        self._indices: dict[str, int] = {}
        self._pixels: dict[tuple[Source | None, str], Tensor] = {}
        self._last_medium: tuple[tuple[Source, str], Medium] | None = None
        self._unreadable: dict[Source, str] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Item | BadSample:
        """Read and encode one sample; one that cannot be read comes back as a `BadSample`.

        A negative index `~i` gives sample i as padding.
        """
        if index < 0:
            item = self[~index]
            return replace(item, is_padding=True) if isinstance(item, Item) else item
        if index in self._items:
            return _to_send(self._items[index])
        item = self._encode(self.samples[index])
        if isinstance(item, Item):
            self._keep(index, item)
            return _to_send(self._items.get(index, item))
        return item

    def index_of(self, sample_id: str) -> int:
        """The index of a sample."""
        if not self._indices:
            self._indices = {sample.id: index for index, sample in enumerate(self.samples)}
        return self._indices[sample_id]

    def longest_prompt(self) -> int:
        """Tokens of a prompt at the most: of each kind and task the longest, by its largest medium.

        Tasks have instructions of their own. Reads no medium: frames of the largest size that the
        reader gives are made up.
        """
        longest: dict[tuple[str, Task], VideoSample] = {}
        for sample in self.samples:
            known = longest.setdefault((sample.media_type, sample.task), sample)
            if _text_length(sample) > _text_length(known):
                longest[sample.media_type, sample.task] = sample
        kinds = {kind for kind, _ in longest}
        media = {kind: None if kind == "text" else self.reader.largest(kind) for kind in kinds}
        lengths = []
        for (kind, _), sample in longest.items():
            medium = media[kind]
            messages = self._messages(in_text_units(sample, medium, self.box_units))
            prompt = encode_prompt(self.processor, messages, medium, sample.id)
            lengths.append(len(prompt.input_ids))
        return max(lengths)

    def longest_responses(self) -> list[str]:
        """The teacher responses with the most characters; one of them has the most tokens."""
        texts = (response.text for pool in self.pools.values() for response in pool)
        return heapq.nlargest(16, texts, key=len)

    def mean_qualities(self) -> list[float | None]:
        """Mean quality of each sample's teacher responses, without reading its medium.

        None without a pool, and where a box in pixels would need the medium's size.
        """
        found: list[float | None] = []
        for sample in self.samples:
            pool = self.pools.get(sample.id, ())
            needs_size = sample.task.answers_box and self.box_units == "pixels"
            if not pool or needs_size:
                found.append(None)
                continue
            scored = score_responses(_in_units(sample, 1000, 1000), pool)
            found.append(sum(response.quality for response in scored) / len(scored))
        return found

    def _encode(self, sample: VideoSample) -> Item | BadSample:
        place = str(sample.media or "text only")
        try:
            medium = None
            if sample.media is not None:
                medium = self._read(sample.media, sample.media_type)
                if reason := behind_end(sample, medium.times_s[-1], self.max_overshoot_s):
                    return BadSample(sample.id, place, reason)
            sample = in_text_units(sample, medium, self.box_units)
            prompt = encode_prompt(self.processor, self._messages(sample), medium, sample.id)
            pool = score_responses(sample, self.pools.get(sample.id, ()))
        except MediaError as error:
            return BadSample(sample.id, place, str(error))
        except Exception as error:
            # Whatever a processor or a parser stumbles over, it is this sample's: beyond the
            # budget of bad samples the run stops and says so.
            reason = f"cannot be encoded ({type(error).__name__}: {error})"
            return BadSample(sample.id, place, reason)
        return Item(sample, prompt, pool)

    def _messages(self, sample: VideoSample) -> list[dict[str, Any]]:
        """The question in its template; a control token in it is text, as in a response."""
        question, *options = (
            spelt_out(self.processor, text) for text in (sample.question, *sample.options)
        )
        plain = replace(sample, question=question, options=tuple(options))
        return render_messages(plain, self.template)

    def _read(self, media: Source, kind: str) -> Medium:
        """Frames of a medium; those of the last one are at hand for the next question about it.

        One that cannot be read is not tried again: that may take the decoder's time-out.
        """
        if media in self._unreadable:
            raise MediaError(self._unreadable[media])
        if self._last_medium is None or self._last_medium[0] != (media, kind):
            try:
                self._last_medium = ((media, kind), self.reader.read(media, kind))
            except MediaError as error:
                self._unreadable[media] = str(error)
                raise
        return self._last_medium[1]

    def _keep(self, index: int, item: Item) -> None:
        """Remember an item while there is room, sharing the pixels of its medium."""
        prompt, medium = item.prompt, (item.sample.media, item.sample.media_type)
        tensors = prompt.tensors()
        known = self._pixels.get(medium)
        if known is not None:
            del tensors["pixels"]
        copies = self._arena.keep(list(tensors.values()), _ITEM_BYTES)
        if copies is None:
            return
        kept: dict[str, Any] = dict(zip(tensors, copies, strict=True))
        if known is not None:
            kept["pixels"] = known
        elif prompt.pixels is not None:
            self._pixels[medium] = kept["pixels"]
        self._items[index] = replace(item, prompt=replace(prompt, **kept))


def _to_send(item: Item) -> Item:
    """In a loading process with tensors of its own.

    Sending moves a tensor to shared memory. What is kept would lie there for good, with a file open
    for each tensor until the process may open no more.
    """
    return item if get_worker_info() is None else replace(item, prompt=item.prompt.clone())


def _text_length(sample: VideoSample) -> int:
    return len(sample.question) + sum(map(len, sample.options))


def in_text_units(sample: VideoSample, medium: Medium | None, units: BoxUnits) -> VideoSample:
    """The sample with its boxes as the model writes them: rewards compare like with like."""
    if medium is None or not sample.evidence.boxes:
        return sample
    height, width = medium.frames.shape[1:3]
    return _in_units(sample, *((width, height) if units == "pixels" else (1000, 1000)))


def _in_units(sample: VideoSample, x: int, y: int) -> VideoSample:
    boxes = tuple(
        replace(item, box=(item.box[0] * x, item.box[1] * y, item.box[2] * x, item.box[3] * y))
        for item in sample.evidence.boxes
    )
    return replace(sample, evidence=replace(sample.evidence, boxes=boxes))


def collate(items: Sequence[Item | BadSample]) -> PromptBatch:
    """Put items into a batch; bad samples are carried along to be counted."""
    return PromptBatch(
        items=tuple(item for item in items if isinstance(item, Item)),
        bad=tuple(item for item in items if isinstance(item, BadSample)),
    )
