"""Tokens of a response that was not sampled here."""

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
    # Control tokens are spelt out: a vision placeholder in a text has no features behind it.
    ids = tokenizer(
        text.removesuffix(tokenizer.eos_token), add_special_tokens=False, split_special_tokens=True
    ).input_ids
    return (*ids, tokenizer.eos_token_id) if is_complete else tuple(ids)
