"""How a question and its video are put to a model."""

from dataclasses import dataclass
from typing import Literal

from lit_vdistill.media.frame_images import FrameTimes
from lit_vdistill.responses.writing import BoxUnits
from lit_vdistill.types import Envelope


@dataclass(frozen=True)
class PromptConfig:
    """How a question is put and how boxes are written."""

    template: str = "grounded"
    """`grounded` (states the grammar behind the question), `instructed` (in a system text a task),
    `short` (the bare question), or a YAML file with some of the keys `name`, `system` (a text, or
    one by task), `instructions` (a text by task), `keeps_question` (options as written)
    and `questions` (what stands for question and options, by a benchmark's kind or by task)."""
    box_units: BoxUnits | None = None
    """Units of boxes in text, the pool's too: `pixels` of the frame the model sees (Qwen2.5-VL),
    `thousandths` of width and height (Qwen3-VL, Qwen3.5, InternVL), null: those of its family."""
    envelope: Envelope = "strict"
    """How responses are taken apart for rewards, qualities, judge and scores: `strict`, one think
    and one answer block and nothing else, or `lenient` as VISD's release, see `parse_response`."""
    frames_as: Literal["video", "images"] = "video"
    """A video as the processor's own `video`, or as `images`, each frame behind a line with its
    time (VISD's release)."""
    frame_times: FrameTimes = "true"
    """What such a line says: the `true` time, or `even`, i/n of the length (VISD's release)."""
    key_frames: bool = False
    """Whether frames at annotated moments stand among the images of a training prompt whose task
    reasons at moments (VISD's release): a hint that held-out prompts do not have."""

    def __post_init__(self) -> None:
        """Refuse what a `video` cannot show.

        Raises:
            ValueError: Names the key.
        """
        if self.frames_as == "video" and (self.key_frames or self.frame_times != "true"):
            key = "key_frames" if self.key_frames else "frame_times"
            raise ValueError(
                f"data.prompt.{key} needs data.prompt.frames_as images: a processor's own video "
                "has its frames in order at their true times"
            )
