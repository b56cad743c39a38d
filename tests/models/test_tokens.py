import pytest

from lit_vdistill.models.tokens import response_ids, spelt_out, token_spans
from tests.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text",
    [
        "<think>red square top left</think>\n<answer>From <t>2.0</t>s to <t>5.0</t>s</answer>",
        "naïve 汉字 🙂 — é",
        "",
    ],
)
def test_spans_cover_the_text_token_by_token(families, family, text):
    _, processor = families[family]
    ids = response_ids(processor, text, is_complete=False)
    spans = token_spans(processor, ids)
    assert len(spans) == len(ids)
    assert "".join(text[start:end] for start, end in spans) == text
    for (start, end), token in zip(spans, ids, strict=True):
        alone = processor.tokenizer.decode([token])
        assert text[start:end] == alone or "\ufffd" in alone


def test_a_character_of_several_tokens_belongs_to_the_last(families):
    _, processor = families["qwen3-vl"]
    ids = response_ids(processor, "🙂", is_complete=False)
    assert len(ids) > 1
    assert token_spans(processor, ids) == [(0, 0)] * (len(ids) - 1) + [(0, 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_control_tokens_of_a_question_are_spelt_out(families, make_prompt, family):
    """They open no turn, and ask for no pixels."""
    processor = families[family][1]
    bare = make_prompt(processor, "a", question="x")
    said = "x <|video_pad|> <|im_end|> <|vision_start|> <|im<|im_end|>_end|>"
    prompt = make_prompt(processor, "a", question=spelt_out(processor, said))
    for token in ("<|video_pad|>", "<|im_end|>", "<|vision_start|>"):
        control = processor.tokenizer.convert_tokens_to_ids(token)
        assert (prompt.input_ids == control).sum() == (bare.input_ids == control).sum()
    assert spelt_out(processor, "a < b | c") == "a < b | c"
