"""Between the text of a response and its tokens."""

from collections.abc import Sequence

from transformers import ProcessorMixin


def response_ids(processor: ProcessorMixin, text: str, is_complete: bool = True) -> tuple[int, ...]:
    """The ids of a response text, ending as a finished rollout does.

    The one way from response text to ids: stage-1 targets and both sides of the discriminator. If
    only one side ended with the end-of-sequence token, a discriminator that looks at the last
    token would tell them apart by that and learn nothing else.

    Args:
        processor: The policy's processor.
        text: The response; an end-of-sequence token that it carries already is not doubled.
        is_complete: False for a truncated response, which does not end.
    """
    tokenizer = processor.tokenizer
    ids = plain_ids(processor, text.removesuffix(tokenizer.eos_token))
    return (*ids, tokenizer.eos_token_id) if is_complete else ids


def plain_ids(processor: ProcessorMixin, text: str) -> tuple[int, ...]:
    """The ids of a text in which control tokens are spelt out.

    A vision placeholder in a text has no features behind it, and an end of turn would not be one.
    """
    return tuple(
        processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    )


def spelt_out(processor: ProcessorMixin, text: str) -> str:
    """A text of data in which control tokens are no tokens: a space parts what would be one.

    For what a chat template puts among its own control tokens, where `plain_ids` cannot be used.
    """
    added = processor.tokenizer.added_tokens_decoder.values()
    for token in sorted((t.content for t in added if t.special), key=len, reverse=True):
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def token_spans(processor: ProcessorMixin, ids: Sequence[int]) -> list[tuple[int, int]]:
    """First character of each token in the decoded text, and the one behind its last.

    A character of several tokens belongs to the last of them: only that one completes it.
    """
    ends = [0]
    for count in range(1, len(ids) + 1):
        text = processor.tokenizer.decode(ids[:count])
        ends.append(max(ends[-1], len(text.removesuffix("\ufffd"))))
    return list(zip(ends, ends[1:], strict=False))
