"""A prompt as tensors: made once a sample, read by every network."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """What a network has made of a prompt's media."""

    pooled: tuple[Float[Tensor, "_ hidden"], ...]
    """Features of each medium, a row a placeholder."""
    deepstack: tuple[tuple[Float[Tensor, "_ hidden"], ...], ...]
    """The same from earlier layers, by level; empty where decoder layers read none."""
    anchor: Float[Tensor, ""] | None = None
    """0, with a gradient path to the tower, where it was called without a medium to look at."""
    positions: Int[Tensor, "3 seq"] | None = None
    """Positions of the prompt's tokens, which follow from its media; None for a text."""

    def to(self, device: torch.device | str) -> "PromptFeatures":
        """The same features on a device."""
        return PromptFeatures(
            tuple(part.to(device) for part in self.pooled),
            tuple(tuple(part.to(device) for part in level) for level in self.deepstack),
            None if self.anchor is None else self.anchor.to(device),
            None if self.positions is None else self.positions.to(device),
        )


@dataclass(frozen=True, slots=True)
class PixelScale:
    """How a processor makes what its tower reads of colour values in 0…255."""

    mean: tuple[float, ...]
    """By colour, in colour values."""
    std: tuple[float, ...]

    @classmethod
    def of(cls, part: Any) -> "PixelScale":
        """That of an image or video processor.

        Args:
            part: With `image_mean`, `image_std`, `rescale_factor` and the switches of both steps.
        """
        unit = 1.0 / part.rescale_factor if part.do_rescale else 1.0
        if not part.do_normalize:
            return cls((0.0,) * 3, (unit,) * 3)
        # In float32, as the processor does: the same to the last bit.
        mean, std = (torch.tensor(v) * unit for v in (part.image_mean, part.image_std))
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def apply(self, pixels: UInt8[Tensor, "patches values"]) -> Float[Tensor, "patches values"]:
        """Float32 values of patches, whose values are sorted by colour first."""
        by_colour = pixels.float().unflatten(1, (len(self.mean), -1))
        mean, std = (pixels.new_tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        return by_colour.sub_(mean[:, None]).div_(std[:, None]).flatten(1)


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """One prompt, tokenised, with its pixels."""

    sample_id: str
    input_ids: Int[Tensor, " seq"]
    token_types: Int[Tensor, " seq"]
    """0 text, 1 image, 2 video."""
    pixels: UInt8[Tensor, "patches values"] | None = None
    """Colour values in 0…255, a quarter of what a tower reads of them."""
    pixel_scale: PixelScale | None = None
    """What a tower reads is made of them where it runs."""
    grid_thw: Int[Tensor, "media 3"] | None = None
    """Patches along time, height and width, of a video or of each image; None without a medium."""
    kind: Literal["video", "image", "text"] = "text"
    """As what its media are read: a video may be `image`s."""
    medium: str | None = None
    """Digest of all that a tower and positions read of its media, which only equal ones share; None
    for a text, and where nobody has said."""
    second_per_grid: float | None = None
    """Seconds between two temporal patches, where positions count them."""
    times_s: tuple[float, ...] = ()
    """Seconds at which its frames show, in their order; none without a medium."""
    features: PromptFeatures | None = None
    """Of the tower that is to read the prompt, once it has; it then does not look again. A text
    has some too, without a part in them, once its batch was looked at."""

    def to(self, device: torch.device | str) -> "EncodedPrompt":
        """The same prompt on a device, its features with it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, (Tensor, PromptFeatures)) else value
            for name, value in values.items()
        }
        return EncodedPrompt(**moved)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by field, without features."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def clone(self) -> "EncodedPrompt":
        """The same prompt with tensors of its own."""
        copies: dict[str, Any] = {name: value.clone() for name, value in self.tensors().items()}
        return replace(self, **copies)

    def tower_input(
        self, device: torch.device | str | None = None
    ) -> Float[Tensor, "patches values"]:
        """The pixels as a tower reads them, float32, on a device or where the pixels are."""
        assert self.pixels is not None, "a prompt with a medium has pixels"
        assert self.pixel_scale is not None, "pixels have the scale of their processor"
        return self.pixel_scale.apply(self.pixels.to(device or self.pixels.device))

    def without_pixels(self) -> "EncodedPrompt":
        """The same prompt for networks whose tower has looked already.

        Raises:
            ValueError: When no tower has, so that the medium would be lost.
        """
        if self.pixels is not None and self.features is None:
            raise ValueError(
                f"sample {self.sample_id}: its pixels are needed until encode_vision has looked"
            )
        return replace(self, pixels=None)


def split_prompt(prompt: EncodedPrompt, turn_end_id: int) -> tuple[EncodedPrompt, tuple[int, ...]]:
    """A prompt up to the end of its question, and the ids that follow: the turn's end and the next.

    What a teacher is told more stands between the two, so that all rollouts of a prompt share what
    comes before, video and question, whatever is said to each.

    Args:
        prompt: A chat whose last user turn ends with the question.
        turn_end_id: The token that ends a turn.

    Raises:
        ValueError: When the prompt has no such token behind its media.
    """
    ends = (prompt.input_ids == turn_end_id).nonzero()[:, 0]
    last_medium = prompt.token_types.nonzero()[-1:, 0]
    if not len(ends) or (len(last_medium) and ends[-1] < last_medium[0]):
        raise ValueError(
            f"sample {prompt.sample_id}: the chat template ends no turn by the end-of-sequence "
            "token, so there is no place behind the question for what a teacher knows"
        )
    end = int(ends[-1])
    tail = tuple(prompt.input_ids[end:].tolist())
    return replace(
        prompt, input_ids=prompt.input_ids[:end], token_types=prompt.token_types[:end]
    ), tail
