"""A language-model head that is called once, whatever is made of it.

Sharded weights are gathered by hooks on a module's call, by all processes together. Were the head
called once a chunk of tokens, processes with unequal numbers of tokens would wait for each other
forever. So the chunks are worked on inside one call, while the weight is there.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Work = Callable[[Tensor], tuple[Tensor, ...]]
"""What to do with hidden states while a head's weight is there.

What comes out must be a plain tuple of tensors: the hooks of DeepSpeed and FSDP2 that gather the
weight once more for the backward pass sit on tensors that they find in it.
"""


class OneCallHead(nn.Linear):
    """A linear layer that others may work with inside its call."""

    @classmethod
    def convert(cls, head: nn.Linear) -> None:
        """Make a linear layer one, in place; weights, names and hooks stay."""
        head.__class__ = cls

    def forward(self, input: Tensor, within: Work | None = None) -> Any:
        """Logits, or what `within` makes of the input while the weight is gathered.

        The input goes through the call although `within` could hold it: the hooks that release the
        weight after the backward pass sit on positional tensors.
        """
        return super().forward(input) if within is None else within(input)
