"""Cutting a window into pieces that fit one forward and backward pass."""

from collections.abc import Sequence

from lit_vdistill.rollouts.engine import token_turns


def cut(costs: Sequence[int], num_pieces: int, bound: int) -> tuple[tuple[int, ...], ...]:
    """Cut groups into pieces of at most `bound` tokens, in order, as even as order allows.

    Args:
        costs: Tokens of each group, at the most.
        num_pieces: Pieces wanted; some stay empty where there are fewer groups.
        bound: Tokens a piece, `optim.max_tokens`.

    Returns:
        Groups of each piece, as indices.

    Raises:
        ValueError: When a group is beyond the bound, or there are too few pieces; names what fits.
    """
    if max(costs) > bound:
        raise ValueError(_beyond(max(costs), bound))
    least = len(token_turns(costs, bound))
    if least > num_pieces:
        raise ValueError(
            f"a step of {len(costs)} prompts a process, {sum(costs)} tokens with their completions,"
            f" needs {least} pieces of at most optim.max_tokens {bound}: set "
            f"trainer.accumulate_grad_batches to {least} or more, got {num_pieces}"
        )
    low, high = max(costs), bound
    while low < high:
        middle = (low + high) // 2
        if len(token_turns(costs, middle)) <= num_pieces:
            high = middle
        else:
            low = middle + 1
    pieces = [list(range(len(costs)))[turn] for turn in token_turns(costs, low)]
    while len(pieces) < num_pieces:
        widest = max(range(len(pieces)), key=lambda i: (len(pieces[i]) > 1, len(pieces[i])))
        half = (len(pieces[widest]) + 1) // 2
        pieces[widest : widest + 1] = [pieces[widest][:half], pieces[widest][half:]]
    return tuple(tuple(piece) for piece in pieces)


def check_pieces(largest: int, window_size: int, num_pieces: int, bound: int) -> None:
    """Refuse a run in which a window might not fit its pieces, whatever stands in it.

    Args:
        largest: Tokens of the largest group that there can be.
        window_size: Groups of a window, `data.loader.batch_size`.
        num_pieces: `trainer.accumulate_grad_batches`.
        bound: Tokens a piece, `optim.max_tokens`.

    Raises:
        ValueError: Names the least number of pieces, or the least bound.
    """
    if largest > bound:
        raise ValueError(_beyond(largest, bound))
    needed = -(-window_size // (bound // largest))
    if needed > num_pieces:
        raise ValueError(
            f"a step of data.loader.batch_size {window_size} prompts a process, each of up to "
            f"{largest} tokens with its completions, goes through in pieces of at most "
            f"optim.max_tokens {bound}, which takes {needed} of them: set "
            f"trainer.accumulate_grad_batches to {needed} or more, got {num_pieces}"
        )


def _beyond(largest: int, bound: int) -> str:
    return (
        f"a prompt with its completions takes up to {largest} tokens, more than optim.max_tokens "
        f"{bound}: raise that to {largest} (policy.gradient_checkpointing makes room), or take "
        "fewer rollouts (loss.group_size), shorter ones (sampling.max_completion_tokens) or "
        "smaller or fewer frames (data.frames)"
    )
