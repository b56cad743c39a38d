"""Routers of mixtures of experts: how evenly they spread tokens over experts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router said of a forward pass's tokens."""

    logits: Float[Tensor, "tokens experts"]
    top_k: int
    """Experts that a token takes."""


@contextmanager
def routed_tokens(
    network: nn.Module, routers: tuple[type[nn.Module], ...]
) -> Iterator[Sequence[Routed]]:
    """Keep what a network's routers say in the forward passes within, layer by layer.

    Args:
        network: The network.
        routers: Classes of its family's routers.
    """
    kept: list[Routed] = []

    def keep(router: nn.Module, _: object, output: tuple[Tensor, ...]) -> None:
        # No arithmetic: where activations are recomputed, the second pass goes without it.
        kept.append(Routed(output[0], router.top_k))  # type: ignore[arg-type]

    found = [module for module in network.modules() if isinstance(module, routers)]
    hooks = [router.register_forward_hook(keep) for router in found]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def balance_loss(
    layers: Sequence[Routed], is_token: Bool[Tensor, " tokens"] | None
) -> Float[Tensor, ""]:
    """Load-balancing loss (Switch Transformer, arXiv:2101.03961, Eq. 4-6), averaged over layers.

    In each layer E Σ_e f_e P_e over E experts: f_e is the share of tokens that take expert e,
    P_e its mean probability, whose gradient it has. Tokens that are spread evenly over experts make
    it `top_k`, its scale in transformers, which takes f and P over all layers together, so that
    what one layer prefers can hide what another does.

    Args:
        layers: What the routers said.
        is_token: False for padding, which counts nowhere; None = all are tokens.
    """
    each = []
    for routed in layers:
        logits = routed.logits if is_token is None else routed.logits[is_token]
        probabilities = logits.float().softmax(dim=-1)
        chosen = logits.topk(routed.top_k, dim=-1).indices
        taken = torch.zeros_like(probabilities).scatter_(-1, chosen, 1.0)
        shares = (taken.mean(dim=0), probabilities.mean(dim=0))
        each.append(logits.shape[-1] * (shares[0] * shares[1]).sum())
    return torch.stack(each).mean()
