"""How prompts and completions are laid out as sequences, and where to read the results.

`dense_layout` is the plain one: a sequence a row, prompt then completion, padded on the right.
`packed_layout` is one flat sequence without padding, `[p1 | c11 … c1N | p2 | c21 …]`. An attention
plan lets each completion see its prompt and itself (`models/shared_prefix.py`), and its positions
go on from the prompt's, so every token computes what it computes alone. N completions cost P + ΣT
tokens instead of N·P + ΣT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_vdistill.models.plans.groups import PrefixGroup


@dataclass(frozen=True, slots=True)
class Row:
    """One completion of one prompt."""

    prompt: int
    """Index into the prompts."""
    completion_ids: tuple[int, ...]
    context_ids: tuple[int, ...] = ()
    """What stands between the prompt and this completion; read, not scored."""

    @property
    def num_tokens(self) -> int:
        """Tokens behind the prompt."""
        return len(self.context_ids) + len(self.completion_ids)


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
    """The prompt of each copy of one, in the order in which they stand."""
    groups: tuple[PrefixGroup, ...] | None
    """Prompts and completions of a flat sequence; None for a sequence a row."""
    row_sequence: Int[Tensor, " rows"]
    """The sequence of each row."""
    predicts: Int[Tensor, "rows tokens"]
    """Position in it whose state predicts each token."""
    final: Int[Tensor, " rows"]
    """Position in it of the row's last token; of its prompt's where it has none."""
    completion_ids: Int[Tensor, "rows tokens"]
    mask: Bool[Tensor, "rows tokens"]
    """True where there is a completion token and not padding."""

    @property
    def is_token(self) -> Bool[Tensor, "batch seq"] | None:
        """False at padding of `ids`; None where there is none."""
        if self.groups is not None:
            return None
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        return places <= self.final[:, None]


def dense_layout(prompts: Sequence[PlacedPrompt], rows: Sequence[Row], pad_id: int) -> Layout:
    """A sequence a row: the oracle of the tests and of the self-check."""
    pieces = [_Pieces.of(prompts[row.prompt], [row]) for row in rows]
    return Layout(
        ids=pad_sequence([p.ids for p in pieces], batch_first=True, padding_value=pad_id),
        position_ids=pad_sequence([p.positions.T for p in pieces], batch_first=True).permute(
            2, 0, 1
        ),
        prompts=tuple(row.prompt for row in rows),
        groups=None,
        row_sequence=torch.arange(len(rows), device=pieces[0].ids.device),
        predicts=pad_sequence([p.predicts[0] for p in pieces], batch_first=True),
        final=torch.stack([p.final[0] for p in pieces]),
        **_completions(rows, pieces[0].ids.device, pad_id),
    )


def packed_layout(prompts: Sequence[PlacedPrompt], rows: Sequence[Row], pad_id: int) -> Layout:
    """One flat sequence in which each prompt stands once, with all of its completions."""
    members: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row.prompt, []).append(index)
    pieces, groups, start = [], [], 0
    predicts, final = [torch.empty(0)] * len(rows), [torch.empty(0)] * len(rows)
    for prompt, indices in members.items():
        piece = _Pieces.of(prompts[prompt], [rows[i] for i in indices])
        for index, predicting, last in zip(indices, piece.predicts, piece.final, strict=True):
            predicts[index], final[index] = predicting + start, last + start
        lengths = tuple(len(rows[i].context_ids) + len(rows[i].completion_ids) for i in indices)
        groups.append(PrefixGroup(start, len(prompts[prompt].ids), lengths))
        pieces.append(piece)
        start = groups[-1].stop
    device = pieces[0].ids.device
    return Layout(
        ids=torch.cat([piece.ids for piece in pieces])[None],
        position_ids=torch.cat([piece.positions for piece in pieces], dim=1)[:, None],
        prompts=tuple(members),
        groups=tuple(groups),
        row_sequence=torch.zeros(len(rows), dtype=torch.long, device=device),
        predicts=pad_sequence(predicts, batch_first=True),
        final=torch.stack(final),
        **_completions(rows, device, pad_id),
    )


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A prompt and completions behind it, with places counted from the prompt's first token."""

    ids: Int[Tensor, " seq"]
    positions: Int[Tensor, "3 seq"]
    predicts: tuple[Int[Tensor, "_"], ...]
    final: tuple[Int[Tensor, ""], ...]

    @classmethod
    def of(cls, prompt: PlacedPrompt, rows: Sequence[Row]) -> "_Pieces":
        device = prompt.ids.device
        ids, positions = [prompt.ids], [prompt.positions]
        predicts, final = [], []
        end = prompt_length = len(prompt.ids)
        for row in rows:
            behind = prompt.ids.new_tensor((*row.context_ids, *row.completion_ids))
            steps = torch.arange(len(behind), device=device)
            ids.append(behind)
            positions.append((steps + prompt.following).expand(3, -1))
            # What follows the prompt is predicted by its last token, all else by what precedes it.
            predecessors = (steps + end - 1).where(steps > 0, prompt_length - 1)
            predicts.append(predecessors[len(row.context_ids) :])
            end += len(behind)
            last = end - 1 if len(behind) else prompt_length - 1
            final.append(torch.tensor(last, device=device))
        return cls(torch.cat(ids), torch.cat(positions, dim=1), tuple(predicts), tuple(final))


def _completions(rows: Sequence[Row], device: torch.device, pad_id: int) -> dict[str, Tensor]:
    ids = [torch.tensor(row.completion_ids, dtype=torch.long, device=device) for row in rows]
    lengths = torch.tensor([len(row.completion_ids) for row in rows], device=device)
    return {
        "completion_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "mask": torch.arange(int(lengths.max()), device=device) < lengths[:, None],
    }
