"""The tokenizer of the tiny students, and how a chat is written."""

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

_CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# Of the other house, behind all others.
_INTERNVL = {
    "start_image_token": "<img>", "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
}  # fmt: skip
# Ordinary text to the decoder, so that rewards see them, but one token each.
_TAGS = (
    "<think>", "</think>", "<answer>", "</answer>",
    "<obj>", "</obj>", "<box>", "</box>", "<t>", "</t>",
)  # fmt: skip
_WORDS = """
    system user assistant You are a helpful video Think first The then answer with From to at and in
    is the a an of s Correct Option Options Which colour shape shapes digit number shown visible
    appear appears Is there When Where What How many Describe Locate frame red green blue yellow
    square disc cross top bottom left right yes no A B C D E F second seconds between letter only
    word sentence first last moves object none not there shows text image
"""
_INTEGERS = [str(number) for number in range(129)]
_TIMES = [f"{tenth / 10:.1f}" for tenth in range(0, 161, 5)]
# A timestamp such as `<0.5 seconds>` stays one token: it shortens prompts by a third.
_TIMESTAMPS = [f"<{tenth / 10:.1f} seconds>" for tenth in range(160)]
_SPLIT = r"<\d+\.\d seconds>|\d+\.\d|\d+| ?\p{L}+|\s+|[^\s\p{L}\d]"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

INTERNVL_TEMPLATE = (
    CHAT_TEMPLATE
    .replace("<|vision_start|><|video_pad|><|vision_end|>", "<video>\n")
    .replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
)  # fmt: skip


def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE that knows the words of the embedded world and can spell any other.

    Transformers gives every Qwen3.5 tokenizer that model's own splitting as it loads one: there
    numbers and timestamps are added tokens, so that they stay one each.
    """
    is_split_anew = family.startswith("qwen3.5")
    backend = _trained([] if is_split_anew else _TIMESTAMPS)
    shared: dict[str, Any] = {
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(_CONTROL[3:]),
        "model_max_length": 32768, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    if is_split_anew:
        learnt = json.loads(backend.to_str())["model"]
        merges: Any = [tuple(pair) for pair in learnt["merges"]]
        tokenizer: Any = Qwen3_5Tokenizer(vocab=learnt["vocab"], merges=merges, **shared)
        tokenizer.add_tokens([AddedToken(t, special=True) for t in _CONTROL], special_tokens=True)
        kept = (*_TAGS, *_INTEGERS, *_TIMES, *_TIMESTAMPS)
        tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in kept])
        return tokenizer
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in _TAGS])
    if family == "internvl3.5":
        backend.add_special_tokens([AddedToken(t, special=True) for t in _INTERNVL.values()])
        shared["extra_special_tokens"] = dict(_INTERNVL)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **shared)


def _trained(more: Sequence[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    words = _WORDS.split()
    corpus = [*words, *(f" {word}" for word in words), *_INTEGERS, *_TIMES, *more]
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(_CONTROL),
    )
    backend.train_from_iterator(corpus, trainer)
    return backend
