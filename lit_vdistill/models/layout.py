"""How prompts and completions are laid out as sequences, and where to read the results.

`dense_layout` is the plain one: a sequence a row, prompt then completion. `packed_layout` puts all
completions of a prompt behind one copy of it, `[prompt | c1 … cN]`; a mask lets each completion
see the prompt and itself, and its positions go on from the prompt's, so every token computes what
it computes alone. N completions cost P + ΣT tokens instead of N·P + ΣT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_PAD_SEGMENT = -1


@dataclass(frozen=True, slots=True)
class Row:
    """One completion of one prompt."""

    prompt: int
    """Index into the prompts."""
    completion_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlacedPrompt:
    """A prompt's ids and where its tokens stand in M-RoPE."""

    ids: Int[Tensor, " seq"]
    positions: Int[Tensor, "3 seq"]
    following: int
    """Position of the token after the prompt, on all three axes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Sequences to run, and for each row of completions where its states are."""

    ids: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "3 batch seq"]
    prompts: tuple[int, ...]
    """The prompt of each sequence."""
    attention_mask: Bool[Tensor, "batch 1 seq seq"] | None
    """True where a query (third axis) sees a key; None = causal."""
    row_sequence: Int[Tensor, " rows"]
    """The sequence of each row."""
    predicts: Int[Tensor, "rows tokens"]
    """Position in it whose state predicts each token."""
    final: Int[Tensor, " rows"]
    """Position in it of the row's last token."""
    completion_ids: Int[Tensor, "rows tokens"]
    mask: Bool[Tensor, "rows tokens"]
    """True where there is a completion token and not padding."""


def dense_layout(prompts: Sequence[PlacedPrompt], rows: Sequence[Row], pad_id: int) -> Layout:
    """A sequence a row: the oracle of the tests, and for kernels without a mask."""
    return _layout(prompts, rows, [[i] for i in range(len(rows))], pad_id)


def packed_layout(prompts: Sequence[PlacedPrompt], rows: Sequence[Row], pad_id: int) -> Layout:
    """A sequence a prompt, with all of its completions."""
    members: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row.prompt, []).append(index)
    return _layout(prompts, rows, list(members.values()), pad_id)


def _layout(
    prompts: Sequence[PlacedPrompt], rows: Sequence[Row], sequences: list[list[int]], pad_id: int
) -> Layout:
    device = prompts[0].ids.device
    completions = [torch.tensor(row.completion_ids, device=device) for row in rows]
    ids, positions, segments = [], [], []
    row_sequence, final = [0] * len(rows), [0] * len(rows)
    predicts: list[Tensor] = [torch.empty(0)] * len(rows)
    for number, members in enumerate(sequences):
        prompt = prompts[rows[members[0]].prompt]
        parts, places = [prompt.ids], [prompt.positions]
        owners = [torch.zeros_like(prompt.ids)]
        end = prompt_length = len(prompt.ids)
        for segment, index in enumerate(members, start=1):
            completion = completions[index]
            steps = torch.arange(len(completion), device=device)
            parts.append(completion)
            places.append((steps + prompt.following).expand(3, -1))
            owners.append(torch.full_like(completion, segment))
            row_sequence[index], final[index] = number, end + len(completion) - 1
            # The first token is predicted by the prompt's last, the others by their predecessors.
            predicts[index] = (steps + end - 1).where(steps > 0, prompt_length - 1)
            end += len(completion)
        ids.append(torch.cat(parts))
        positions.append(torch.cat(places, dim=1).T)
        segments.append(torch.cat(owners))
    is_packed = any(len(members) > 1 for members in sequences)
    padded = pad_sequence(segments, batch_first=True, padding_value=_PAD_SEGMENT)
    lengths = torch.tensor([len(completion) for completion in completions], device=device)
    return Layout(
        ids=pad_sequence(ids, batch_first=True, padding_value=pad_id),
        position_ids=pad_sequence(positions, batch_first=True).permute(2, 0, 1),
        prompts=tuple(rows[members[0]].prompt for members in sequences),
        attention_mask=_block_mask(padded) if is_packed else None,
        row_sequence=torch.tensor(row_sequence, device=device),
        predicts=pad_sequence(predicts, batch_first=True),
        final=torch.tensor(final, device=device),
        completion_ids=pad_sequence(completions, batch_first=True, padding_value=pad_id),
        mask=torch.arange(int(lengths.max()), device=device) < lengths[:, None],
    )


def _block_mask(segments: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch 1 seq seq"]:
    """Causal, and a key is in the prompt (segment 0) or in the query's own segment."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    keys, queries = segments[:, None, :], segments[:, :, None]
    return (causal & ((keys == 0) | (keys == queries)))[:, None]
