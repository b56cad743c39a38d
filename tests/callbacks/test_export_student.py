import re
from types import SimpleNamespace

from callbacks import ExportStudent
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.models.vlm import VLMConfig


def test_the_export_carries_a_card_whose_code_loads_it(prepare, world, tmp_path, monkeypatch):
    from lit_vdistill.data.datamodule import SourceConfig, VideoDistillDataModule
    from lit_vdistill.rollouts.engine import SamplingConfig
    from lit_vdistill.stages import SFTModule

    stage = prepare(SFTModule(VLMConfig("tiny/qwen3-vl"), [], sampling=SamplingConfig()), step=7)
    stage.validation_report = {"score": 0.5}
    paths = [str(world / name) for name in ("train.jsonl", "val.jsonl")]
    data = VideoDistillDataModule(
        "tiny/qwen3-vl", SourceConfig(*paths, str(world)), prompt=PromptConfig("grounded")
    )
    trainer = SimpleNamespace(
        fast_dev_run=False, is_global_zero=True, global_step=7, datamodule=data
    )
    folder = tmp_path / "my_run" / "student"
    ExportStudent(str(folder)).on_fit_end(trainer, stage)
    card = (folder / "README.md").read_text()
    for part in ("# my_run", "`tiny/qwen3-vl`, 7 optimizer steps", "SFTModule", "train.jsonl",
                 "`grounded`", "16 a video", "thousandths", "`score` 0.5"):  # fmt: skip
        assert part in card
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    names = {}
    exec(code, names)
    assert names["model"].config.model_type == "qwen3_vl"
    assert names["processor"].tokenizer.vocab_size
