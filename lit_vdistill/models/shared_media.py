"""Questions about one medium as one prompt, so that its tokens are run once for all of them."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt


def share_media(
    prompts: Sequence[EncodedPrompt], rows: Sequence[Row], media: Sequence[Hashable | None]
) -> tuple[list[EncodedPrompt], list[Row]]:
    """Let prompts about one medium stand once, up to where their words part.

    What follows in each becomes the context of its rows, so that every completion token has before
    it what it had, and the same positions. A prompt is left whole where it shares no medium, or
    where the words part before the medium ends.

    Args:
        prompts: The prompts; of one medium they have the same pixels.
        rows: Their completions, each with the index of its prompt.
        media: What each prompt shows, equal where the pixels are; None for a text.

    Returns:
        Fewer prompts, and the rows in their order with the index of the one that they stand behind.
    """
    fewer: list[EncodedPrompt] = []
    place, behind = [0] * len(prompts), [()] * len(prompts)
    groups: dict[Hashable, list[int]] = {}
    for index, medium in enumerate(media):
        groups.setdefault(index if medium is None else medium, []).append(index)
    for members in groups.values():
        length = _common_length([prompts[i] for i in members])
        first = prompts[members[0]]
        if len(members) == 1 or bool(first.token_types[length:].any()):
            for i in members:
                place[i] = len(fewer)
                fewer.append(prompts[i])
            continue
        for i in members:
            place[i], behind[i] = len(fewer), tuple(prompts[i].input_ids[length:].tolist())
        ids, types = first.input_ids[:length], first.token_types[:length]
        fewer.append(replace(first, input_ids=ids, token_types=types))
    return fewer, [
        replace(r, prompt=place[r.prompt], context_ids=(*behind[r.prompt], *r.context_ids))
        for r in rows
    ]


def _common_length(prompts: Sequence[EncodedPrompt]) -> int:
    """How many first tokens all prompts have in common."""
    length = min(len(prompt.input_ids) for prompt in prompts)
    first = prompts[0].input_ids[:length]
    for prompt in prompts[1:]:
        apart = (prompt.input_ids[:length] != first).nonzero()
        if len(apart):
            length = int(apart[0])
            first = first[:length]
    return length
