import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from tests.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_students_are_real_and_small(families, family, tmp_path):
    model, processor = families[family]
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 3e6
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    tokenizer = AutoProcessor.from_pretrained(tmp_path).tokenizer
    for text in (
        "<think>Ünïcode, <obj>a cup</obj>\n</think> 12.5 <t>3.0</t>s",
        "<|im_start|>user\n<0.5 seconds>Where? [12,128,5,90] 4711<|im_end|>",
    ):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        # Transformers splits some families' texts by a rule of its own, whatever was saved.
        assert tokenizer(text).input_ids == processor.tokenizer(text).input_ids


@pytest.mark.parametrize("family", FAMILIES)
def test_grammar_and_timestamps_are_single_tokens(families, family):
    tokenizer = families[family][1].tokenizer
    for text in ("<think>", "</answer>", "<t>", "<box>", "<0.5 seconds>", "7.5", " square"):
        assert len(tokenizer(text).input_ids) == 1, text


def test_weights_follow_the_global_seed():
    def weight(seed):
        torch.manual_seed(seed)
        return next(load_model(VLMConfig("tiny/qwen3-vl")).parameters())

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))


def test_frozen_vision_and_dtype():
    model = load_model(VLMConfig("tiny/qwen3-vl", dtype="bfloat16", freeze_vision=True))
    assert not any(p.requires_grad for p in model.model.visual.parameters())
    assert all(p.requires_grad for p in model.model.language_model.parameters())
    assert model.dtype == torch.bfloat16


def test_wrong_paths_say_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="'tiny/qwen3-vl', .*'tiny/qwen2.5-vl', 'tiny/qwen3.5'"):
        load_processor("tiny/qwen4")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(VLMConfig(str(tmp_path / "none")))


def test_a_checkpoint_of_an_unknown_family_says_which_are_known(tmp_path):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'gemma3' is of no family .*'qwen3_5'.*CONTRIBUTING"):
        load_model(VLMConfig(str(tmp_path)))
