"""What the Qwen-VL families have in common: one tower for images and videos, M-RoPE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.video_utils import VideoMetadata

from lit_vdistill.models.families.family import Backbone, Family, MediaFeatures, ServedMedium
from lit_vdistill.models.families.mrope import mrope_positions
from lit_vdistill.models.families.patch_tower import speed_up_tower
from lit_vdistill.models.prompt import EncodedPrompt, PixelScale
from lit_vdistill.models.shared_prefix import AttentionKernel, AttentionPlan, enable_plans
from lit_vdistill.types import Medium

_KINDS = ("image", "video")


@dataclass(slots=True)
class _EncoderOutput:
    """The two fields that these networks read of an encoder output."""

    pooler_output: list[Tensor]
    deepstack_features: list[list[Tensor]]


class QwenVL(Family):
    """Tower `visual`, decoder `language_model`, patches of images and videos of one kind."""

    never_sampled: ClassVar[tuple[str, ...]] = (
        "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    )  # fmt: skip

    def prepare(self, model: PreTrainedModel, kernel: AttentionKernel) -> None:
        """See `Family.prepare`."""
        enable_plans(model, kernel)
        speed_up_tower(model, model.model.visual)

    def tower(self, backbone: Backbone) -> nn.Module:
        """See `Family.tower`."""
        return backbone.visual

    def look(self, backbone: Backbone, pixels: Tensor, grids: Tensor) -> MediaFeatures:
        """See `Family.look`."""
        # Patches of images and videos are of one kind to the tower, so both getters do the same.
        output = backbone.get_image_features(pixels, grids, return_dict=True)
        levels = getattr(output, "deepstack_features", None) or ()
        return MediaFeatures(output.pooler_output, levels)

    def blank(self, backbone: Backbone) -> tuple[Tensor, Tensor]:
        """See `Family.blank`."""
        vision = backbone.config.vision_config
        edge = vision.spatial_merge_size
        values = 3 * vision.temporal_patch_size * vision.patch_size**2
        return torch.zeros(edge * edge, values), torch.tensor([[1, edge, edge]])

    def positions(self, backbone: Backbone, prompt: EncodedPrompt) -> Int[Tensor, "3 seq"]:
        """See `Family.positions`."""
        assert prompt.grid_thw is not None, "a prompt with a medium has a grid"
        edge = backbone.config.vision_config.spatial_merge_size
        pace = self.pace(backbone, prompt)
        return mrope_positions(prompt.token_types, prompt.grid_thw, edge, pace)

    def pace(self, backbone: Backbone, prompt: EncodedPrompt) -> float:
        """Positions from one temporal patch of a video to the next."""
        return 1.0

    def hidden_states(
        self, backbone: Backbone, ids: Tensor, positions: Tensor,
        prompts: Sequence[EncodedPrompt], plan: AttentionPlan | None,
    ) -> Tensor:  # fmt: skip
        """See `Family.hidden_states`."""
        return backbone(
            input_ids=ids,
            position_ids=positions,
            mm_encoder_outputs=_encoder_outputs(prompts),
            attention_plan=plan,
            use_cache=False,
        ).last_hidden_state

    def rotary(
        self, language_model: Any, places: Int[Tensor, " positions"]
    ) -> tuple[Float[Tensor, "positions dim"], Float[Tensor, "positions dim"]]:
        """See `Family.rotary`."""
        like = language_model.embed_tokens.weight
        cosine, sine = language_model.rotary_emb(like, places.expand(3, 1, -1))
        return cosine[0], sine[0]

    def frame_factor(self, processor: ProcessorMixin) -> int:
        """See `Family.frame_factor`."""
        return processor.video_processor.patch_size * processor.video_processor.merge_size

    def encode(
        self, processor: ProcessorMixin, text: str, medium: Medium | None
    ) -> Mapping[str, Any]:
        """See `Family.encode`."""
        inputs: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        if medium is not None:
            pictures = torch.from_numpy(medium.frames).permute(0, 3, 1, 2)
            inputs |= {"do_resize": False, "do_rescale": False, "do_normalize": False}
            if medium.kind == "video":
                inputs |= {"videos": [pictures], "do_sample_frames": False}
                inputs["video_metadata"] = [_metadata(medium.times_s)]
            else:
                inputs["images"] = list(pictures)
        encoded = processor(**inputs)
        ids = encoded["input_ids"][0]
        if medium is None:
            return {"input_ids": ids, "token_types": torch.zeros_like(ids)}
        suffix = "_videos" if medium.kind == "video" else ""
        seconds = encoded.get("second_per_grid_ts")
        return {
            "input_ids": ids,
            "token_types": encoded["mm_token_type_ids"][0].long(),
            "pixels": encoded.get(f"pixel_values{suffix}"),
            "pixel_scale": PixelScale.of(_reader_of(processor, medium.kind)),
            "grid_thw": encoded.get(f"{medium.kind}_grid_thw"),
            "second_per_grid": None if seconds is None else float(seconds[0]),
        }

    def num_features(
        self, processor: ProcessorMixin, kind: Literal["video", "image"], grid: Int[Tensor, "_ 3"]
    ) -> int:
        """See `Family.num_features`."""
        return int(grid.prod(dim=-1).sum()) // _reader_of(processor, kind).merge_size ** 2

    def served_media(self, config: Any, prompt: EncodedPrompt) -> list[ServedMedium]:
        """See `Family.served_media`.

        A stretch of one temporal patch is served as an image of its own: the tower looks at each
        alone, and vLLM takes no video with text between its frames. Only Qwen2.5-VL's videos are
        one stretch.
        """
        if prompt.grid_thw is None:
            return []
        edge, media = config.vision_config.spatial_merge_size, []
        pixels, place, row = prompt.tower_input(), 0, 0
        patches = iter([(h, w) for t, h, w in prompt.grid_thw.tolist() for _ in range(t)])
        for kind, run in groupby(prompt.token_types.tolist()):
            first, count = place, len(list(run))
            place += count
            if kind == 0:
                continue
            height, width = next(patches)
            duration = count * edge**2 // (height * width)
            for _ in range(duration - 1):
                next(patches)
            rows = slice(row, row + duration * height * width)
            row = rows.stop
            grid = torch.tensor([duration, height, width])
            if duration == 1:
                names, facts = ("image", "pixel_values"), {"image_grid_thw": grid}
            else:
                seconds = torch.tensor(prompt.second_per_grid or 1.0)
                names = ("video", "pixel_values_videos")
                facts = {"video_grid_thw": grid, "second_per_grid_ts": seconds}
            modality: Any = names[0]
            media.append(ServedMedium(modality, first, count, names[1], pixels[rows], facts))
        return media

    def glimpse(self, config: Any, prompt: EncodedPrompt) -> EncodedPrompt | None:
        """See `Family.glimpse`; the patches of a tower come cell by cell."""
        if prompt.pixels is None:
            return None
        edge = config.vision_config.spatial_merge_size
        is_feature = prompt.token_types > 0
        kept = ~is_feature
        kept[is_feature.nonzero()[0, 0]] = True
        return replace(
            prompt,
            input_ids=prompt.input_ids[kept],
            token_types=prompt.token_types[kept],
            pixels=prompt.pixels[: edge**2],
            grid_thw=prompt.input_ids.new_tensor([[1, edge, edge]]),
            medium=None,
            features=None,
        )


def _reader_of(processor: ProcessorMixin, kind: str) -> Any:
    return processor.video_processor if kind == "video" else processor.image_processor


def _encoder_outputs(prompts: Sequence[EncodedPrompt]) -> dict[str, Any] | None:
    """Features by kind, in the order in which the prompts stand."""
    inputs: dict[str, Any] = {}
    for kind in _KINDS:
        found = [p.features for p in prompts if p.kind == kind and p.features is not None]
        if found:
            levels = range(len(found[0].deepstack))
            inputs[kind] = _EncoderOutput(
                pooler_output=[part for features in found for part in features.pooled],
                deepstack_features=[[p for f in found for p in f.deepstack[k]] for k in levels],
            )
    return inputs or None


def _metadata(times_s: tuple[float, ...]) -> VideoMetadata:
    """True times in the form that all of these processors read.

    Qwen3-VL divides frame indices by the rate: at one frame a second an index is a time.
    Qwen2.5-VL wants the mean rate of the sampled frames, which `total_num_frames` then fixes.
    """
    elapsed = times_s[-1] - times_s[0]
    sampled_fps = (len(times_s) - 1) / elapsed if elapsed > 0 else 1.0
    return VideoMetadata(
        total_num_frames=len(times_s) / sampled_fps,  # type: ignore[arg-type]
        fps=1.0,
        frames_indices=list(times_s),  # type: ignore[arg-type]
    )
