"""Twin networks, ours and stock, and prompts of a wanted length."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.tiny import build_tiny_model
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.types import Medium

PATH = "tiny/qwen3-vl"
"""The smallest; a name of `TINY_SIZES` behind it makes another."""
QUESTION = "When is the red square visible?"
SHORT_QUESTION = "When is the red square visible? Answer with the first and the last second shown."
QUESTIONS = (
    QUESTION,
    "Which digits are shown?",
    "How many shapes are there in the second half of the video?",
    "Where is the blue disc when the green one appears? Answer with a box.",
    "What happens?",
)
EDGE = 256
"""Width and height of frames: 64 tokens for two frames in time."""
SHORT_FRAMES, SHORT_EDGE = 16, 64
"""Small videos, for windows of many: 4 tokens for two frames in time."""


@dataclass(frozen=True)
class Arena:
    """What one case is run on."""

    path: str
    """Of the network, as `VLMConfig` takes it."""
    ours: PreTrainedModel
    """Loaded as the stages load it."""
    stock: PreTrainedModel
    """The same weights in transformers' own network, with nothing of ours."""
    processor: ProcessorMixin
    prompt: EncodedPrompt
    frames: np.ndarray
    completions: torch.Tensor
    """Random completions of one length, `[rows, tokens]`."""

    @property
    def num_rollouts(self) -> int:
        """Completions of the prompt, N."""
        return len(self.completions)

    @property
    def num_tokens(self) -> int:
        """Tokens of each completion, T."""
        return self.completions.shape[1]


def build_arena(prompt_tokens: int, num_rollouts: int, num_tokens: int, path: str = PATH) -> Arena:
    """Twins with equal random weights, a video prompt of at least so many tokens, completions."""
    torch.manual_seed(0)
    ours = load_model(VLMConfig(path))
    stock = build_tiny_model(path.removeprefix("tiny/")).train()
    stock.load_state_dict(copy.deepcopy(ours.state_dict()))
    processor = load_processor(path)
    rng = np.random.default_rng(0)
    pairs = 1
    while True:
        frames = rng.integers(0, 255, (2 * pairs, EDGE, EDGE, 3), dtype=np.uint8)
        prompt = encode_video(processor, frames)
        if len(prompt.input_ids) >= prompt_tokens:
            break
        pairs += max(1, (prompt_tokens - len(prompt.input_ids)) // 72)
    completions = torch.from_numpy(rng.integers(300, 600, (num_rollouts, num_tokens)))
    return Arena(path, ours, stock, processor, prompt, frames, completions)


def short_prompts(count: int, path: str = PATH) -> list[EncodedPrompt]:
    """Prompts about small videos, each with one of its own, all of one length."""
    processor, rng = load_processor(path), np.random.default_rng(0)
    shape = (SHORT_FRAMES, SHORT_EDGE, SHORT_EDGE, 3)
    return [
        encode_video(
            processor, rng.integers(0, 255, shape, dtype=np.uint8), f"demo{number}", SHORT_QUESTION
        )
        for number in range(count)
    ]


def encode_video(
    processor: ProcessorMixin,
    frames: np.ndarray,
    sample_id: str = "speed",
    question: str = QUESTION,
) -> EncodedPrompt:
    """A question about frames that are half a second apart."""
    content = [{"type": "video"}, {"type": "text", "text": question}]
    medium = Medium("video", frames, tuple(i * 0.5 for i in range(len(frames))))
    return encode_prompt(processor, [{"role": "user", "content": content}], medium, sample_id)
