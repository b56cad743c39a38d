"""From a record to tensors: one item a sample, one batch of items."""

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from transformers import ProcessorMixin

from lit_vdistill.data.arena import Arena
from lit_vdistill.data.batch import Item
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.data.teacher_view import NoEvidence, ViewConfig
from lit_vdistill.media.frame_images import FrameTimes, as_images
from lit_vdistill.media.frames import frame_at
from lit_vdistill.media.video import MediaError, MediaReader
from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.tokens import spelt_out
from lit_vdistill.pool.quality import score_responses
from lit_vdistill.pool.text_units import (
    edges_of,
    in_text_units,
    responses_in_units,
    sample_in_units,
)
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.schema import behind_end
from lit_vdistill.responses.prompts import PromptTemplate, render_messages
from lit_vdistill.responses.writing import BoxUnits
from lit_vdistill.types import (
    MediaType,
    Medium,
    Source,
    Task,
    TeacherResponse,
    VideoSample,
)

_ITEM_BYTES = 4096
"""What a kept item takes beside its tensors' values: records, responses, the tensors themselves."""


class PromptDataset(Dataset[Item | BadSample]):
    """Samples of one split with their media and teacher responses."""

    def __init__(
        self,
        samples: Sequence[VideoSample],
        pools: Mapping[str, tuple[TeacherResponse, ...]],
        reader: MediaReader,
        processor: ProcessorMixin,
        template: PromptTemplate,
        prompt: PromptConfig,
        memory_gib: float = 0.0,
        max_overshoot_s: float = math.inf,
    ) -> None:
        """Join what is given; nothing is read before an item is asked for.

        Args:
            samples: Records of the split.
            pools: Teacher responses, or demonstrations, by sample id.
            reader: Reads their media.
            processor: Encodes prompts.
            template: The words around a question.
            prompt: How videos are shown and boxes are written.
            memory_gib: Encoded samples are kept in memory up to this size; the pixels of a medium
                are kept once, however many questions are asked about it.
            max_overshoot_s: Evidence that lies further behind the last frame makes a bad sample.
        """
        self.samples = samples
        self.pools = pools
        self.reader = reader
        self.processor = processor
        self.template = template
        self.prompt = prompt
        units = prompt.box_units or family_of_processor(processor).box_units
        self.box_units: BoxUnits = units
        self.max_overshoot_s = max_overshoot_s
        self._arena = Arena(int(memory_gib * 2**30))
        self._items: dict[int, Item] = {}
        self._indices: dict[str, int] = {}
        self._pixels: dict[str, Tensor] = {}
        self._view: ViewConfig | None = None
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

    def show_teacher(self, view: ViewConfig | None) -> None:
        """Read each video twice from now on: for the student, and as a privileged teacher sees it.

        Raises:
            ValueError: When the student's boxes would be in other units for the teacher.
        """
        if view is not None and view.max_pixels and self.box_units == "pixels":
            raise ValueError(
                f"view.max_pixels {view.max_pixels}: boxes count pixels of the student's frames, "
                "in larger ones they would be elsewhere; leave it out, or set "
                "data.prompt.box_units thousandths where the student writes those"
            )
        self._view = view
        if view is not None:
            self._viewer = self.reader.planned(view.frames(self.reader.config))

    def index_of(self, sample_id: str) -> int:
        """The index of a sample."""
        if not self._indices:
            self._indices = {sample.id: index for index, sample in enumerate(self.samples)}
        return self._indices[sample_id]

    def longest_prompt(self) -> int:
        """Tokens of a prompt at the most: of each kind and task the longest, by its largest medium.

        Tasks have instructions of their own. Reads no medium: frames of the largest size that the
        reader gives are made up, and as many key frames as any sample of the task shows.
        """
        longest: dict[tuple[MediaType, Task], VideoSample] = {}
        moments: dict[Task, int] = defaultdict(int)
        for sample in self.samples:
            known = longest.setdefault((sample.media_type, sample.task), sample)
            if _text_length(sample) > _text_length(known):
                longest[sample.media_type, sample.task] = sample
            moments[sample.task] = max(moments[sample.task], len(self._shown_moments(sample)))
        lengths = []
        for (kind, task), sample in longest.items():
            medium = None if kind == "text" else self.reader.largest(kind)
            key_frames = [] if medium is None else [(0.0, medium.frames[0])] * moments[task]
            lengths.append(len(self._prompt(sample, medium, key_frames).input_ids))
        return max(lengths)

    def longest_read(self) -> int:
        """Tokens of the longest prompt that any network reads, the teacher's view included."""
        longest = self.longest_prompt()
        if self._view is None:
            return longest
        seen = PromptDataset(
            self.samples, {}, self._viewer, self.processor, self.template, self.prompt
        )
        return max(longest, seen.longest_prompt())

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
            has_boxes = sample.task.answers_box or sample.task.answers_track
            needs_size = has_boxes and self.box_units == "pixels"
            if not pool or needs_size:
                found.append(None)
                continue
            scored = score_responses(
                sample_in_units(sample, 1000.0, 1000.0), responses_in_units(pool, 1000.0, 1000.0)
            )
            found.append(sum(response.quality for response in scored) / len(scored))
        return found

    def _encode(self, sample: VideoSample) -> Item | BadSample:
        place = str(sample.media or "text only")
        try:
            medium, key_frames = None, []
            if sample.media is not None:
                medium = self._read(sample.media, sample.media_type)
                if reason := behind_end(sample, medium.times_s[-1], self.max_overshoot_s):
                    return BadSample(sample.id, place, reason)
                key_frames = self._key_frames(sample, self.reader)
            prompt = self._prompt(sample, medium, key_frames)
            view = None if medium is None else self._view_of(sample, medium)
            sample = in_text_units(sample, medium, self.box_units)
            edges = edges_of(medium, self.box_units) or (1.0, 1.0)
            pool = score_responses(
                sample, responses_in_units(self.pools.get(sample.id, ()), *edges)
            )
        except MediaError as error:
            return BadSample(sample.id, place, str(error))
        except Exception as error:
            # Whatever a processor or a parser stumbles over, it is this sample's: beyond the
            # budget of bad samples the run stops and says so.
            reason = f"cannot be encoded ({type(error).__name__}: {error})"
            return BadSample(sample.id, place, reason)
        return Item(sample, prompt, pool, view)

    def _prompt(
        self,
        sample: VideoSample,
        medium: Medium | None,
        key_frames: Sequence[tuple[float, np.ndarray]],
        times: FrameTimes | None = None,
    ) -> EncodedPrompt:
        """The question in its template; a control token in it is text, as in a response."""
        question, as_written, *options = (
            spelt_out(self.processor, text)
            for text in (sample.question, sample.as_written, *sample.options)
        )
        plain = replace(sample, question=question, as_written=as_written, options=tuple(options))
        lines = None
        if medium is not None and self._are_images(medium.kind):
            medium, lines = as_images(medium, key_frames, times or self.prompt.frame_times)
        messages = render_messages(plain, self.template, lines)
        return encode_prompt(self.processor, messages, medium, sample.id)

    def _view_of(self, sample: VideoSample, medium: Medium) -> EncodedPrompt | None:
        """The prompt as a privileged teacher sees it; None where that is no other."""
        if self._view is None or medium.kind != "video" or sample.media is None:
            return None
        try:
            window = self._view.window(sample)
        except NoEvidence:
            return None
        seen = self._viewer.read(sample.media, "video", window=window)
        if window is None:
            return self._prompt(sample, seen, self._key_frames(sample, self._viewer))
        # An even clock would begin with the window.
        seen = replace(seen, length_s=medium.length_s)
        return self._prompt(sample, seen, (), "true")

    def _are_images(self, kind: MediaType) -> bool:
        return kind == "video" and self.prompt.frames_as == "images"

    def _shown_moments(self, sample: VideoSample) -> tuple[float, ...]:
        """Annotated times whose frames stand in the prompt beside the planned ones."""
        is_shown = self.prompt.key_frames and self._are_images(sample.media_type)
        return sample.evidence.moments if is_shown and sample.task.reasons_at_moments else ()

    def _key_frames(
        self, sample: VideoSample, reader: MediaReader
    ) -> list[tuple[float, np.ndarray]]:
        """Their pictures; one that shows at two of the times is taken once."""
        times_s = self._shown_moments(sample)
        if not times_s or sample.media is None:
            return []
        found = reader.read(sample.media, sample.media_type, at_s=times_s)
        first = {frame_at(found.times_s, time_s): time_s for time_s in reversed(times_s)}
        return [(time_s, found.frames[place]) for place, time_s in sorted(first.items())]

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
        """Remember an item while there is room, sharing the pixels of what its prompts show."""
        prompt = self._kept(item.prompt)
        view = None if item.view is None else self._kept(item.view)
        if prompt is not None and (view is None) == (item.view is None):
            self._items[index] = replace(item, prompt=prompt, view=view)

    def _kept(self, prompt: EncodedPrompt) -> EncodedPrompt | None:
        """A prompt in the arena, its pixels once for all that show the same; None without room."""
        tensors = prompt.tensors()
        known = None if prompt.medium is None else self._pixels.get(prompt.medium)
        if known is not None:
            del tensors["pixels"]
        copies = self._arena.keep(list(tensors.values()), _ITEM_BYTES)
        if copies is None:
            return None
        kept: dict[str, Any] = dict(zip(tensors, copies, strict=True))
        if known is not None:
            kept["pixels"] = known
        elif prompt.medium is not None:
            self._pixels[prompt.medium] = kept["pixels"]
        return replace(prompt, **kept)


def _to_send(item: Item) -> Item:
    """In a loading process with tensors of its own.

    Sending moves a tensor to shared memory. What is kept would lie there for good, with a file open
    for each tensor until the process may open no more.
    """
    if get_worker_info() is None:
        return item
    view = None if item.view is None else item.view.clone()
    return replace(item, prompt=item.prompt.clone(), view=view)


def _text_length(sample: VideoSample) -> int:
    return max(len(sample.question) + sum(map(len, sample.options)), len(sample.as_written))
