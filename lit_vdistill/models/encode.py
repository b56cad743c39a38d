"""From a chat and its medium to the tensors of a prompt."""

import hashlib
from dataclasses import replace
from typing import Any

from transformers import ProcessorMixin

from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.types import Medium


def encode_prompt(
    processor: ProcessorMixin,
    messages: list[dict[str, Any]],
    medium: Medium | None,
    sample_id: str,
) -> EncodedPrompt:
    """Apply chat template and processor to one question.

    An image medium is one image or several, each with a placeholder of its own. Frames are not
    sampled again, and timestamps come from `medium.times_s`, never from a default rate.

    Raises:
        ValueError: When placeholders and vision features do not agree in number; names the sample.
    """
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = EncodedPrompt(
        sample_id=sample_id,
        kind="text" if medium is None else medium.kind,
        times_s=() if medium is None else medium.times_s,
        **family_of_processor(processor).encode(processor, text, medium),
    )
    _check_placeholders(prompt, processor)
    return replace(prompt, medium=_digest(prompt))


def _digest(prompt: EncodedPrompt) -> str | None:
    """See `EncodedPrompt.medium`."""
    if prompt.pixels is None or prompt.grid_thw is None:
        return None
    read_as = (prompt.kind, prompt.grid_thw.tolist(), prompt.pixel_scale, prompt.second_per_grid)
    digest = hashlib.blake2b(repr((read_as, prompt.pixels.shape)).encode(), digest_size=16)
    digest.update(prompt.pixels.contiguous().numpy().data)
    return digest.hexdigest()


def _check_placeholders(prompt: EncodedPrompt, processor: ProcessorMixin) -> None:
    placeholders = int((prompt.token_types > 0).sum())
    features = 0
    if prompt.grid_thw is not None and prompt.kind != "text":
        family = family_of_processor(processor)
        features = family.num_features(processor, prompt.kind, prompt.grid_thw)
    if prompt.kind != "text" and features == 0:
        raise ValueError(f"sample {prompt.sample_id}: nothing is left of its medium in the prompt")
    if placeholders != features:
        raise ValueError(
            f"sample {prompt.sample_id}: {placeholders} vision placeholders for {features} vision "
            "features; the chat template or the media of this sample do not fit the processor"
        )
