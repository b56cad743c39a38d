"""What a family of networks does its own way; no file outside this folder knows one by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.models.families.token_step import Angles, TokenCache, attend_token
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.shared_prefix import AttentionKernel, AttentionPlan
from lit_vdistill.responses.writing import BoxUnits
from lit_vdistill.types import Medium

Backbone = Any
"""A network without its language-model head (`model.model`), whose `config` is the whole network's.
`nn.Module` hides the types of its parts."""


@dataclass(frozen=True, slots=True)
class MediaFeatures:
    """What a tower has made of several media."""

    pooled: Sequence[Float[Tensor, "_ hidden"]]
    """Features of each medium, a row a placeholder."""
    deepstack: Sequence[Sequence[Float[Tensor, "_ hidden"]]] = ()
    """The same from earlier layers, by level, where decoder layers read those."""

    def parts(self) -> Iterator[Tensor]:
        """All of its tensors."""
        yield from self.pooled
        for level in self.deepstack:
            yield from level


@dataclass(frozen=True, slots=True)
class ServedMedium:
    """A stretch of placeholders of a prompt, and what a network behind vLLM reads for it."""

    modality: Literal["image", "video"]
    """As what it is served, which may be another kind than the prompt's."""
    first: int
    """Place of its first placeholder in the prompt."""
    count: int
    """Its placeholders."""
    pixels_name: str
    """How vLLM calls what its tower reads."""
    pixels: Float[Tensor, "rows ..."]
    facts: Mapping[str, Tensor]
    """What it is told beside them, by vLLM's names."""


class Family(ABC):
    """One family of networks: where its parts are, how prompts are put to it, how it is run.

    Stateless: what belongs to a network or a processor is handed in.
    """

    model_types: ClassVar[tuple[str, ...]]
    """`model_type` of the checkpoints that it is for."""
    processor: ClassVar[str]
    """Class name of their processor. Families that share one read prompts alike."""
    decoder_layers: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Decoder layers that `rollouts/decoder.py` may run part by part; others by their forward."""
    routers: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Routers of its mixtures of experts: they return logits first and have a `top_k`."""
    box_units: ClassVar[BoxUnits] = "thousandths"
    """How its checkpoints write boxes."""
    never_sampled: ClassVar[tuple[str, ...]]
    """Tokens that stand for media, and those around them: no student may write one."""

    @abstractmethod
    def prepare(self, model: PreTrainedModel, kernel: AttentionKernel) -> None:
        """Let a fresh network take attention plans, and put faster parts in its tower's place.

        Names, shapes and values of its weights stay.
        """

    @abstractmethod
    def tower(self, backbone: Backbone) -> nn.Module:
        """All that makes features of pixels: what `freeze_vision` freezes, one sharded unit.

        A `ModuleList` where no one module does, of those that are called one behind another.
        """

    @abstractmethod
    def look(
        self,
        backbone: Backbone,
        pixels: Float[Tensor, "patches values"],
        grids: Int[Tensor, "media 3"],
    ) -> MediaFeatures:
        """Features of media, by one call of the tower."""

    @abstractmethod
    def blank(
        self, backbone: Backbone
    ) -> tuple[Float[Tensor, "patches values"], Int[Tensor, "1 3"]]:
        """The smallest image that the tower takes."""

    @abstractmethod
    def positions(self, backbone: Backbone, prompt: EncodedPrompt) -> Int[Tensor, "3 seq"]:
        """Positions of the tokens of a prompt with media, along time, height and width.

        What follows the prompt goes on behind the largest.
        """

    @abstractmethod
    def hidden_states(
        self,
        backbone: Backbone,
        ids: Int[Tensor, "batch seq"],
        positions: Int[Tensor, "3 batch seq"],
        prompts: Sequence[EncodedPrompt],
        plan: AttentionPlan | None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Last hidden states, features in the placeholders' places.

        Args:
            backbone: The network without its head.
            ids: Token ids.
            positions: Of the tokens.
            prompts: Those in `ids`, as often and in the order as they stand there, with the
                features of their media.
            plan: Who looks at whom and whose state goes on; None is a sequence a row, causal.
        """

    @abstractmethod
    def rotary(
        self, language_model: Any, places: Int[Tensor, " positions"]
    ) -> tuple[Float[Tensor, "positions dim"], Float[Tensor, "positions dim"]]:
        """Cosine and sine of text at these positions, for decoding token by token."""

    def mix_token(
        self,
        layer: Any,
        hidden: Float[Tensor, "rows hidden"],
        angles: Angles,
        cache: TokenCache,
    ) -> Float[Tensor, "rows hidden"]:
        """A decoder layer's attention, or what stands in its place, for one token a row.

        Args:
            layer: One of `decoder_layers`.
            hidden: States behind its norm.
            angles: Cosine and signed sine of the rows' positions; see `Angles`.
            cache: Takes keys and values, or the state, on.
        """
        return attend_token(layer.self_attn, hidden, angles, cache)

    @abstractmethod
    def frame_factor(self, processor: ProcessorMixin) -> int:
        """Pixels: sides of frames and images are multiples of it."""

    @abstractmethod
    def encode(
        self, processor: ProcessorMixin, text: str, medium: Medium | None
    ) -> Mapping[str, Any]:
        """What the processor makes of a prompt's text and its medium, whose size is right already.

        Returns:
            Fields of `EncodedPrompt`: `input_ids`, `token_types`, and with a medium `pixels`,
            `pixel_scale`, `grid_thw`, perhaps `second_per_grid`.
        """

    @abstractmethod
    def num_features(
        self, processor: ProcessorMixin, kind: Literal["video", "image"], grid: Int[Tensor, "_ 3"]
    ) -> int:
        """How many placeholders media of these grids have."""

    def in_checkpoint(self, name: str, weight: Tensor) -> Tensor:
        """A weight as the family's checkpoints have it, where transformers' writing does not."""
        return weight

    def served_media(self, config: Any, prompt: EncodedPrompt) -> list[ServedMedium]:
        """The media of a prompt for a network of this family that vLLM serves, in their order.

        Args:
            config: Of the whole network.
            prompt: With its pixels.

        Raises:
            NotImplementedError: When nobody has said how vLLM reads them exactly.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: how its pixels are handed to vLLM is not known; sample in "
            "process (model.sampling.engine null)"
        )

    def glimpse(self, config: Any, prompt: EncodedPrompt) -> EncodedPrompt | None:
        """The prompt with no more than one placeholder, whose position no rule disputes.

        Args:
            config: Of the whole network.
            prompt: With its pixels.

        Returns:
            None for a text, and where nobody has said how.
        """
        return None
