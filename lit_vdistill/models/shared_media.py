"""Questions about one medium as one prompt, so that its tokens are run once for all of them."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace

from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt


def share_media(
    prompts: Sequence[EncodedPrompt], rows: Sequence[Row]
) -> tuple[list[EncodedPrompt], list[Row]]:
    """Let prompts about one medium stand once, up to where their words part.

    What follows in each becomes the context of its rows, so that every completion token has before
    it what it had, and the same positions. A prompt is left whole where it shares no medium, or
    where the words part before the medium ends (`by_medium`).

    Args:
        prompts: The prompts.
        rows: Their completions, each with the index of its prompt.

    Returns:
        Fewer prompts, and the rows in their order with the index of the one that they stand behind.
    """
    fewer: list[EncodedPrompt] = []
    place, behind = [0] * len(prompts), [()] * len(prompts)
    for members in by_medium(prompts):
        first, length = prompts[members[0]], common_length([prompts[i] for i in members])
        for i in members:
            place[i], behind[i] = len(fewer), tuple(prompts[i].input_ids[length:].tolist())
        ids, types = first.input_ids[:length], first.token_types[:length]
        fewer.append(replace(first, input_ids=ids, token_types=types))
    return fewer, [
        replace(r, prompt=place[r.prompt], context_ids=(*behind[r.prompt], *r.context_ids))
        for r in rows
    ]


def by_medium(prompts: Sequence[EncodedPrompt]) -> list[list[int]]:
    """Indices of prompts that are the same up to the end of their medium, in rising order.

    Each other one, a text too, is alone. Groups come in the order of their first.
    """
    times = Counter(prompt.medium for prompt in prompts)
    groups: dict[Hashable, list[int]] = {}
    for index, prompt in enumerate(prompts):
        key: Hashable = index
        if prompt.medium is not None and times[prompt.medium] > 1:
            end = int(prompt.token_types.nonzero()[-1]) + 1
            key = (prompt.medium, *prompt.input_ids[:end].tolist())
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def common_length(prompts: Sequence[EncodedPrompt]) -> int:
    """How many first tokens all prompts have in common; of one alone, all."""
    length = min(len(prompt.input_ids) for prompt in prompts)
    first = prompts[0].input_ids[:length]
    for prompt in prompts[1:]:
        apart = (prompt.input_ids[:length] != first).nonzero()
        if len(apart):
            length = int(apart[0])
            first = first[:length]
    return length
