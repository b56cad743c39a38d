import pytest

from lit_vdistill.models.tokens import response_ids, token_spans


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2.5-vl"])
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
