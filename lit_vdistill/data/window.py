"""An optimizer step's prompts, and the turns in which the loop gets them.

The loader draws a window: the prompts that a process brings to one or several optimizer steps. It
hands it out once a turn, `num_pieces` turns an optimizer step (`trainer.accumulate_grad_batches`):
as many on all processes and in all steps, as every strategy wants it. Which part of the window a
turn is about, the stage decides, since it knows what a prompt costs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from lit_vdistill.data.batch import Item, PromptBatch, collate
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.stand_ins import collate_places
from lit_vdistill.readers.records import BadSample


class WindowTurn:
    """One turn of one update of a window, as `training_step` gets it.

    The window stays on the host; the stage moves what a turn needs. Not a dataclass: Lightning
    takes those apart and casts what is in them.
    """

    def __init__(
        self,
        window: PromptBatch,
        *,
        update: int = 0,
        piece: int = 0,
        num_pieces: int = 1,
        source: Callable[[int], PromptBatch] | None = None,
        following: PromptBatch | None = None,
    ) -> None:
        """Hold a window and the place in it.

        Args:
            window: This process's prompts of the optimizer step.
            update: Which optimizer step on this window, from 0.
            piece: Which of the step's pieces, from 0.
            num_pieces: Pieces of every step.
            source: Takes further samples from the stream.
            following: The next window, where the loader looks ahead.
        """
        self.window, self._source, self.following = window, source, following
        self.update, self.piece, self.num_pieces = update, piece, num_pieces
        self.on_draw: Callable[[PromptBatch], None] | None = None
        """Called with what was drawn; the data module counts bad samples."""
        self.left_out = 0
        """Samples that all processes have left out until now; the data module counts."""

    def draw(self, count: int) -> PromptBatch:
        """The next samples of the stream; all processes must take as many."""
        assert self._source is not None, "this turn has no stream behind it"
        drawn = self._source(count)
        if self.on_draw is not None:
            self.on_draw(drawn)
        return drawn

    @property
    def is_first(self) -> bool:
        """Whether it begins an optimizer step."""
        return self.piece == 0

    @property
    def is_last(self) -> bool:
        """Whether the optimizer steps behind it."""
        return self.piece + 1 == self.num_pieces

    def to(self, device: torch.device | str) -> "WindowTurn":
        """Itself: the window stays on the host; Lightning calls it."""
        return self


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a run stands in its data."""

    samples: int = 0
    """Samples that this process has drawn; those of a window whose first update is not over are
    drawn again."""
    update: int = 0
    """Optimizer steps that the present window has behind it; 0 before the first."""
    window: tuple[int, ...] = ()
    """Its samples, as indices, where `update` > 0."""


class WindowLoader:
    """Hands out windows of a stream of items, turn by turn, epoch after epoch.

    One iterator serves all epochs, so that workers load ahead across their borders.
    """

    def __init__(
        self,
        stream: Callable[[int], Iterator[Sequence[Item | BadSample]]],
        dataset: PromptDataset,
        *,
        window_size: int,
        windows_per_epoch: int,
        num_pieces: int,
        num_updates: int,
        state: StreamState,
        looks_ahead: bool = False,
    ) -> None:
        """Set up; nothing is loaded before the first turn.

        Args:
            stream: Starts the endless stream behind a number of samples: for each place an item,
                and those that it stands in for.
            dataset: Where they are from.
            window_size: Samples of a window.
            windows_per_epoch: Windows of an epoch.
            num_pieces: Turns of an optimizer step.
            num_updates: Optimizer steps on a window.
            state: Where to go on.
            looks_ahead: Hand each window out with the one behind it.
        """
        self._start_stream, self._dataset = stream, dataset
        self._window_size, self._num_pieces = window_size, num_pieces
        self._num_updates = num_updates
        self._length = windows_per_epoch * num_updates * num_pieces
        self._items: Iterator[Sequence[Item | BadSample]] | None = None
        self._begun, self._start, self._drawn = state, state.samples, state.samples
        self._turn: WindowTurn | None = None
        self._looks_ahead = looks_ahead
        self._following: PromptBatch | None = None  # an epoch's last window has one, too

    def __len__(self) -> int:
        """Turns of an epoch."""
        return self._length

    def __iter__(self) -> Iterator[WindowTurn]:
        """Turns without an end; who iterates stops at the epoch's length."""
        while True:
            begun, self._begun = self._begun, StreamState()
            self._start = self._drawn - self._num_ahead(self._following)
            if self._following is not None:
                window = self._following
            elif begun.update:
                window = self._again(begun.window)
            else:
                window = self.draw(self._window_size)
            self._following = self.draw(self._window_size) if self._looks_ahead else None
            for update in range(begun.update, self._num_updates):
                for piece in range(self._num_pieces):
                    self._turn = WindowTurn(
                        window,
                        update=update,
                        piece=piece,
                        num_pieces=self._num_pieces,
                        source=self.draw,
                        following=self._following,
                    )
                    yield self._turn
                    window = self._turn.window  # others may have taken the place of some

    def draw(self, count: int) -> PromptBatch:
        """The next samples of the stream."""
        if self._items is None:
            self._items = self._start_stream(self._drawn)
        self._drawn += count
        return collate_places(list(islice(self._items, count)))

    def _num_ahead(self, following: PromptBatch | None) -> int:
        """Samples that were drawn for a window whose turn has not come: they are drawn again."""
        return 0 if following is None else self._window_size

    def _again(self, indices: Sequence[int]) -> PromptBatch:
        """The samples of a window whose rollouts a checkpoint holds; none may be missing."""
        window = collate([self._dataset[index] for index in indices])
        if window.bad:
            raise ValueError(
                f"ckpt_path: its window goes on with a sample that can no longer be read: "
                f"{window.bad[0]}; mend it, or resume from a checkpoint at the end of a window"
            )
        return window

    @property
    def state(self) -> StreamState:
        """Where a run goes on that ends with the present turn."""
        if self._turn is None:
            return self._begun
        done = self._turn.update + self._turn.is_last
        if done == 0:
            return StreamState(self._start)
        drawn = self._drawn - self._num_ahead(self._turn.following)
        if done == self._num_updates:
            return StreamState(drawn)
        ids = [item.sample.id for item in self._turn.window.items]
        return StreamState(drawn, done, tuple(map(self._dataset.index_of, ids)))
