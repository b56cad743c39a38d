"""A teacher behind an endpoint: a question with its video becomes a chat, replies become a pool."""

import asyncio
import base64
import hashlib
import io
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from lit_vdistill.media.frame_images import as_images
from lit_vdistill.media.video import FrameConfig, MediaError, MediaReader
from lit_vdistill.readers.templates import load_template
from lit_vdistill.responses.prompts import FrameLines, Message, render_messages
from lit_vdistill.served.client import Reply, ServedModel, ServedSampling
from lit_vdistill.served.endpoint import EndpointConfig
from lit_vdistill.types import TeacherCall, TeacherResponse, VideoSample

MediaAs = Literal["frames", "video_data", "video_file"]
_SEED_BYTES = 4


@dataclass(frozen=True)
class TeacherPrompt:
    """How a question and its video are put to a served teacher."""

    template: str = "grounded"
    """As `data.prompt.template`: `grounded` says how to answer, which a pool's texts need."""
    media_as: MediaAs = "frames"
    """`frames`: the frames that the student will see, as images, each behind a line with its time.
    `video_data`: the file in the request. `video_file`: its address, for a server that may read it
    (vLLM's `--allowed-local-media-path`); it then chooses frames itself."""
    frames: FrameConfig = FrameConfig()
    """Which frames; the student's own `data.frames`."""
    frame_factor: int = 32
    """Sides of frames are multiples of it, as the student's: 32 for Qwen3-VL and Qwen3.5, 28 for
    Qwen2.5-VL."""
    image_format: Literal["png", "jpeg"] = "png"
    """`png` is exact, `jpeg` several times smaller."""


@dataclass(frozen=True)
class TeacherSampling:
    """How a teacher's responses are drawn (R-MSD §4.1.3: 1.0 and 0.9)."""

    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 2048
    seed: int = 0
    """Each call has a seed of its own that follows from it, where the server heeds seeds."""


class ServedTeacher:
    """Asks a served model for responses to questions about media."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        media_root: str,
        *,
        prompt: TeacherPrompt = TeacherPrompt(),
        sampling: TeacherSampling = TeacherSampling(),
        cache_dir: str | None = None,
    ) -> None:
        """Check what can be before anything is asked.

        Args:
            endpoint: The model and its limits.
            media_root: Media paths are below it.
            prompt: How questions are put.
            sampling: How responses are drawn.
            cache_dir: Where decoded frames are kept; None keeps nothing.

        Raises:
            ValueError: For a template, a key or a price that is not there.
        """
        self.endpoint, self.prompt, self.sampling = endpoint, prompt, sampling
        self.template = load_template(prompt.template)
        self.reader = MediaReader(
            media_root, prompt.frames, factor=prompt.frame_factor, cache_dir=cache_dir
        )
        self.model = ServedModel(endpoint)
        self.concurrency = endpoint.concurrency
        self._reading = asyncio.Lock()

    async def aclose(self) -> None:
        """Close connections."""
        await self.model.aclose()

    @property
    def spent(self) -> float | None:
        """What it has cost; None without prices."""
        return None if self.model.price is None else self.model.meter.spent

    async def respond(self, sample: VideoSample, first: int, count: int) -> list[TeacherResponse]:
        """Responses from index `first` on, `count` of them or fewer, at least one.

        Raises:
            MediaError: When the medium cannot be read, or not be sent in this way.
            ServedError: When there is no reply; see `ServedModel.ask`.
        """
        messages = await self._messages(sample)
        seed = _seed(self.sampling.seed, sample.id, first)
        drawn = ServedSampling(
            self.sampling.temperature, self.sampling.top_p, self.sampling.max_tokens, seed
        )
        reply = await self.model.ask(messages, drawn, count)
        return self._responses(sample, first, seed, reply)

    def prompt_version(self, sample: VideoSample) -> str:
        """Template and what follows from it and from how media are sent, as a short hash."""
        parts = (
            self.template.system_of(sample.task), self.template.instructions.get(sample.task, ""),
            self.prompt,
        )  # fmt: skip
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
        return f"{self.template.name}/{digest}"

    def _responses(
        self, sample: VideoSample, first: int, seed: int, reply: Reply
    ) -> list[TeacherResponse]:
        drawn, share = self.sampling, len(reply.choices)
        found = []
        for index, choice in enumerate(reply.choices, first):
            call = TeacherCall(
                seed=seed,
                prompt=self.prompt_version(sample),
                finish_reason=choice.finish_reason,
                input_tokens=reply.input_tokens,
                output_tokens=None if reply.output_tokens is None else reply.output_tokens / share,
                cost=None if reply.cost is None else reply.cost / share,
            )
            found.append(
                TeacherResponse(
                    sample.id, index, choice.text, self.endpoint.model, drawn.temperature,
                    drawn.top_p, call,
                )
            )  # fmt: skip
        return found

    async def _messages(self, sample: VideoSample) -> list[Message]:
        """The chat, with media in it."""
        if sample.media is None:
            return _filled(render_messages(sample, self.template), [])
        if self.prompt.media_as != "frames" and sample.media_type == "video":
            parts = [await asyncio.to_thread(self._video, sample)]
            return _filled(render_messages(sample, self.template), parts)
        async with self._reading:  # one decoder process, whose reply belongs to who has asked
            lines, parts = await asyncio.to_thread(self._frames, sample)
        return _filled(render_messages(sample, self.template, lines), parts)

    def _frames(self, sample: VideoSample) -> tuple[FrameLines | None, list[Message]]:
        assert sample.media is not None
        medium, lines = self.reader.read(sample.media, sample.media_type), None
        if medium.kind == "video":
            medium, lines = as_images(medium, (), "true")
        form = self.prompt.image_format
        return lines, [_picture(frame, form) for frame in medium.frames]

    def _video(self, sample: VideoSample) -> Message:
        if not isinstance(sample.media, str):
            raise MediaError(
                f"{sample.media}: a part of a file, or frames, cannot be sent as a file; set "
                "teacher.prompt.media_as frames"
            )
        path = self.reader.resolve(sample.media)
        if self.prompt.media_as == "video_file":
            return {"type": "video_url", "video_url": {"url": path.absolute().as_uri()}}
        try:
            content = base64.b64encode(path.read_bytes()).decode()
        except OSError as error:
            raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
        return {
            "type": "video_url",
            "video_url": {"url": f"data:{_type_of(path)};base64,{content}"},
        }


def _filled(turns: Sequence[Message], parts: Sequence[Message]) -> list[Message]:
    """A chat with each place of a medium filled by what is shown there."""
    left = iter(parts)
    filled: list[Message] = []
    for turn in turns:
        content: Any = turn["content"]
        if not isinstance(content, str):
            content = [part if part["type"] == "text" else next(left) for part in content]
        filled.append({"role": turn["role"], "content": content})
    return filled


def _picture(frame: np.ndarray, form: str) -> Message:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format=form, **({"quality": 95} if form == "jpeg" else {}))
    content = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{form};base64,{content}"}}


def _type_of(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "video/mp4"


def _seed(seed: int, sample_id: str, first: int) -> int:
    digest = hashlib.blake2b(
        f"{seed}/{sample_id}/{first}".encode(errors="backslashreplace"), digest_size=_SEED_BYTES
    )
    return int.from_bytes(digest.digest()) >> 1
