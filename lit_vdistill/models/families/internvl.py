"""InternVL3.5 (arXiv:2508.18265): every frame is a square tile, positions are 1-D."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from lit_vdistill.models.families.family import Backbone, Family, MediaFeatures, ServedMedium
from lit_vdistill.models.prompt import EncodedPrompt, PixelScale
from lit_vdistill.models.shared_prefix import AttentionKernel, AttentionPlan, enable_plans
from lit_vdistill.types import Medium

_MERGE = 2
"""Patches a token along height, and along width: `downsample_ratio` is a half."""


class InternVL(Family):
    """Tower `vision_tower` and its projector, decoder `language_model` of the Qwen kind.

    A frame becomes one tile, stretched to the tower's square, as its processor does with videos;
    an image too, where that would cut a large one into several.
    """

    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    processor: ClassVar[str] = "InternVLProcessor"
    decoder_layers: ClassVar[tuple[type[nn.Module], ...]] = (Qwen3DecoderLayer, Qwen2DecoderLayer)
    never_sampled: ClassVar[tuple[str, ...]] = ("<IMG_CONTEXT>", "<img>", "</img>", "<video>")

    def prepare(self, model: PreTrainedModel, kernel: AttentionKernel) -> None:
        """See `Family.prepare`."""
        if model.config.downsample_ratio * _MERGE != 1 or model.config.vision_feature_layer != -1:
            raise ValueError(
                "InternVL: expected downsample_ratio 0.5 and vision_feature_layer -1, got "
                f"{model.config.downsample_ratio} and {model.config.vision_feature_layer}; "
                "InternVL3 and InternVL3.5 have these"
            )
        enable_plans(model, kernel)

    def tower(self, backbone: Backbone) -> nn.Module:
        """See `Family.tower`."""
        return nn.ModuleList([backbone.vision_tower, backbone.multi_modal_projector])

    def look(self, backbone: Backbone, pixels: Tensor, grids: Tensor) -> MediaFeatures:
        """See `Family.look`; a row of pixels is a tile."""
        tiles = pixels.unflatten(1, (3, *backbone.config.vision_config.image_size))
        found = backbone.get_image_features(tiles, return_dict=True).pooler_output
        media = found.split(grids[:, 0].tolist())
        return MediaFeatures([part.flatten(0, 1) for part in media])

    def blank(self, backbone: Backbone) -> tuple[Tensor, Tensor]:
        """See `Family.blank`."""
        vision = backbone.config.vision_config
        (height, width), (high, wide) = vision.image_size, vision.patch_size
        grid = torch.tensor([[1, height // high, width // wide]])
        return torch.zeros(1, 3 * height * width), grid

    def positions(self, backbone: Backbone, prompt: EncodedPrompt) -> Int[Tensor, "3 seq"]:
        """See `Family.positions`."""
        ids = prompt.input_ids
        return torch.arange(len(ids), device=ids.device).expand(3, -1)

    def hidden_states(
        self, backbone: Backbone, ids: Tensor, positions: Tensor,
        prompts: Sequence[EncodedPrompt], plan: AttentionPlan | None,
    ) -> Tensor:  # fmt: skip
        """See `Family.hidden_states`."""
        embedded = backbone.language_model.embed_tokens(ids)
        pooled = [part for p in prompts if p.features is not None for part in p.features.pooled]
        if pooled:
            is_feature = (ids == backbone.config.image_token_id)[..., None]
            embedded = embedded.masked_scatter(is_feature, torch.cat(pooled).to(embedded.dtype))
        return backbone.language_model(
            inputs_embeds=embedded,
            position_ids=positions[0],
            attention_plan=plan,
            use_cache=False,
        ).last_hidden_state

    def rotary(
        self, language_model: Any, places: Int[Tensor, " positions"]
    ) -> tuple[Float[Tensor, "positions dim"], Float[Tensor, "positions dim"]]:
        """See `Family.rotary`."""
        like = language_model.embed_tokens.weight
        cosine, sine = language_model.rotary_emb(like, places[None])
        return cosine[0], sine[0]

    def frame_factor(self, processor: ProcessorMixin) -> int:
        """See `Family.frame_factor`; a side of the tile, which any ratio is stretched to."""
        return processor.image_processor.size["height"]

    def encode(
        self, processor: ProcessorMixin, text: str, medium: Medium | None
    ) -> Mapping[str, Any]:
        """See `Family.encode`."""
        inputs: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        if medium is not None:
            pictures = torch.from_numpy(medium.frames).permute(0, 3, 1, 2)
            inputs |= {"do_rescale": False, "do_normalize": False}
            if medium.kind == "video":
                inputs |= {"videos": [pictures], "do_sample_frames": False}
            else:
                inputs |= {"images": list(pictures), "crop_to_patches": False}
        own: Any = processor  # its class has more than `ProcessorMixin` says
        encoded = own(**inputs)
        ids = encoded["input_ids"][0]
        is_feature = ids == own.image_token_id
        if medium is None:
            return {"input_ids": ids, "token_types": torch.zeros_like(ids)}
        tiles = encoded["pixel_values"].to(torch.uint8)
        side = round(own.image_seq_length**0.5) * _MERGE
        is_video = medium.kind == "video"
        grid = [[len(tiles), side, side]] if is_video else [[1, side, side]] * len(tiles)
        reader = own.video_processor if is_video else own.image_processor
        return {
            "input_ids": ids,
            "token_types": is_feature.long() * (2 if is_video else 1),
            "pixels": tiles.flatten(1),
            "pixel_scale": PixelScale.of(reader),
            "grid_thw": torch.tensor(grid),
        }

    def num_features(
        self, processor: ProcessorMixin, kind: Literal["video", "image"], grid: Int[Tensor, "_ 3"]
    ) -> int:
        """See `Family.num_features`."""
        return int(grid.prod(dim=-1).sum()) // _MERGE**2

    def served_media(self, config: Any, prompt: EncodedPrompt) -> list[ServedMedium]:
        """See `Family.served_media`; each tile is served as an image of its own."""
        if prompt.grid_thw is None:
            return []
        tiles = prompt.tower_input().unflatten(1, (3, *config.vision_config.image_size))
        count = int(prompt.grid_thw[0, 1:].prod()) // _MERGE**2
        firsts = prompt.token_types.nonzero()[::count, 0].tolist()
        facts = {
            "image_num_patches": torch.tensor(1),
            "image_token_id": torch.tensor(config.image_token_id),
        }
        return [
            ServedMedium("image", first, count, "pixel_values", tile[None], facts)
            for first, tile in zip(firsts, tiles, strict=True)
        ]
