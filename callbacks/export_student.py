"""The trained student as an ordinary Hugging Face folder."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.weights import checkpoint_weights
from lit_vdistill.readers.templates import load_template
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.tracking.model_card import StudentFacts, TrainingData, model_card


class ExportStudent(Callback):
    """Writes the policy and its processor at the end of fit.

    The folder loads by `AutoModelForImageTextToText.from_pretrained`, and the next stage names it
    as `model.policy.path`; its card says what it is and how it wants to be asked. Sharded weights
    are gathered first. Without this callback a run leaves Lightning checkpoints only.
    """

    def __init__(self, folder: str) -> None:
        """Set up.

        Args:
            folder: Where the export goes; an older one is overwritten.
        """
        self.folder = Path(folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather on all processes, write on the first."""
        assert isinstance(pl_module, VLMStage)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        assert pl_module.policy is not None
        weights = checkpoint_weights(pl_module.policy, is_kept=trainer.is_global_zero)
        if trainer.is_global_zero:
            facts = student_facts(trainer, pl_module, self.folder.resolve().parent.name)
            write_student(self.folder, pl_module.policy, weights, pl_module.processor, facts)


def write_student(
    folder: Path,
    policy: PreTrainedModel,
    weights: dict[str, Tensor],
    processor: ProcessorMixin,
    facts: StudentFacts,
) -> None:
    """Write network, processor and card, all or nothing; an older folder is replaced.

    Args:
        folder: Where to.
        policy: The network, whose config is written.
        weights: From `checkpoint_weights`.
        processor: Its processor.
        facts: For its card.
    """
    partial = folder.with_name(folder.name + ".partial")
    policy.save_pretrained(partial, state_dict=weights, save_original_format=False)
    processor.save_pretrained(partial)
    (partial / "README.md").write_text(model_card(facts), encoding="utf-8")
    _replace(partial, folder)


def student_facts(trainer: Trainer, stage: VLMStage, name: str) -> StudentFacts:
    """What the model card says of a run that has ended."""
    data = getattr(trainer, "datamodule", None)
    known = (
        training_data(data, stage.processor) if isinstance(data, VideoDistillDataModule) else None
    )
    return StudentFacts(
        name,
        stage.policy_config.path,
        method_of(type(stage)),
        trainer.global_step,
        stage.validation_report,
        known,
    )


def method_of(stage: type[VLMStage]) -> str:
    """A stage's class and its first sentence."""
    return f"{stage.__name__}. {(stage.__doc__ or '').split(chr(10) * 2)[0]}"


def training_data(data: VideoDistillDataModule, processor: ProcessorMixin) -> TrainingData:
    """What a student was trained on, and how it was asked."""
    sources, template = data.sources, load_template(data.prompt.template)
    parts = {f"training, {f.share:.0%}": f.path for f in sources.training_files}
    files = parts if len(parts) > 1 else {"training": sources.training_files[0].path}
    files |= {"held out": sources.val_path}
    files |= {"teacher pool": sources.pool_path} if sources.pool_path else {}
    return TrainingData(
        files,
        template.name,
        template.system,
        data.frames,
        data.prompt.frames_as,
        data.prompt.box_units or family_of_processor(processor).box_units,
    )


def _replace(source: Path, target: Path) -> None:
    """Put a finished folder in place of an older one, so that no half of an export is ever seen."""
    import shutil

    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
