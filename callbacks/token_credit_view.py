"""Which tokens the teacher's knowledge speaks to."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from lit_vdistill.data.batch import Item
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.stages import VISDModule
from lit_vdistill.stages.replay import Replay, TokenView
from lit_vdistill.stages.step import StepRecord
from lit_vdistill.tracking.credit_page import credit_page
from lit_vdistill.tracking.drawn_boxes import nearest_frame, predicted_boxes
from lit_vdistill.tracking.logged_media import log_page, that_show_media


class TokenCreditView(Callback):
    """Records one rollout of every n-th step with the credit that it used, for `show credit`.

    Taken is the rollout with the largest advantage by size among those of the first process. Where
    a judge gives feedback, what the step learnt is shown beside what the same teacher thinks
    without the judge's words (VISD Eqs. 29-31), which costs such a step one more row a piece, on
    all processes alike. W&B, where it logs, gets the record's page as `credit/page`. Only looks:
    leaving it out changes no weight. At λ = 0 nothing is recorded.
    """

    def __init__(self, folder: str, every_n_steps: int = 20) -> None:
        """Set up.

        Args:
            folder: A JSON file a record is written to `<folder>/credit/`.
            every_n_steps: Optimizer steps between two records.
        """
        self.folder, self.every_n_steps = Path(folder) / "credit", every_n_steps
        self._written = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove records that this run is going to write itself, or that belong to another."""
        if trainer.is_global_zero:
            for path in self.folder.glob("*.json"):
                if int(path.name.partition("-")[0]) >= trainer.global_step:
                    path.unlink()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask for the view where its turn has come."""
        assert isinstance(pl_module, VISDModule), "TokenCreditView needs a VISD stage"
        pl_module.wants_view = trainer.global_step % self.every_n_steps == 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step just taken when its turn has come."""
        assert isinstance(pl_module, VISDModule)
        record = pl_module.last_step
        if record is None or record.step % self.every_n_steps or record.step == self._written:
            return
        self._written = record.step
        found = _most_moved(record)
        if found is None or not trainer.is_global_zero:
            return
        group, number, view = found
        item = record.experience.batch.items[group]
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        facts = {
            **_facts(pl_module, record, group, number, view),
            "siblings": _siblings(pl_module, record, (group, number), view),
            "frames": [],
        }
        if item.sample.media:
            text = record.experience.groups[group].rollouts[number].text
            facts["frames"] = _frames(item, data, text)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", item.sample.id)
        path = self.folder / f"{record.step:06d}-{name}.json"
        path.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
        if loggers := that_show_media(trainer.loggers):
            log_page(loggers, credit_page(facts), record.step)


def _most_moved(record: StepRecord) -> tuple[int, int, TokenView] | None:
    """Group, rollout and view of the largest advantage among those that were viewed."""
    size, first, found = record.advantages.shape[1], 0, []
    for method, num_groups in zip(record.methods, record.piece_sizes, strict=True):
        view = method.view if isinstance(method, Replay) else None
        if view is not None:
            group, number = divmod(view.rollout, size)
            moved = record.advantages[first + group, number].abs().item()
            found.append((moved, first + group, number, view))
        first += num_groups
    moved, group, number, view = max(found, key=lambda entry: entry[0], default=(0.0, 0, 0, None))
    return (group, number, view) if view is not None and moved else None


def _facts(
    stage: VISDModule, record: StepRecord, group: int, number: int, view: TokenView
) -> dict[str, Any]:
    sample = record.experience.groups[group].sample
    rollout = record.experience.groups[group].rollouts[number]
    decode, credit = stage.processor.tokenizer.decode, stage.credit_config
    return {
        "sample": sample.id,
        "step": record.step,
        "rollout": number,
        "question": sample.question,
        "answer": sample.task.true_answer(sample),
        "tokens": [decode([token]) for token in rollout.completion_ids],
        "conditioning": credit.conditioning,
        "support": credit.support,
        "top_k": credit.top_k,
        "clip": credit.clip,
        "mix": view.mix,
        "log_ratio": view.log_ratio,
        "unjudged_log_ratio": view.unjudged_log_ratio,
        "weights": view.weights,
        "advantage": record.advantages[group, number].item(),
        "rewards": _paid(stage, record, group, number),
        "feedback": view.feedback,
    }


def _siblings(
    stage: VISDModule, record: StepRecord, viewed: tuple[int, int], view: TokenView
) -> list[dict[str, Any]]:
    """Every rollout of a prompt with what it was paid and what the judge said (VISD Figure 7).

    Args:
        stage: Whose step it was.
        record: The step.
        viewed: Group and number of the rollout that the view is about.
        view: Counts rollouts over its piece.
    """
    group, chosen = viewed
    found = record.experience.groups[group]
    return [
        {
            "rollout": number,
            "reward": record.rewards[group, number].item(),
            "advantage": record.advantages[group, number].item(),
            "rewards": _paid(stage, record, group, number),
            "text": rollout.text,
            "feedback": view.judged.get(view.rollout - chosen + number),
        }
        for number, rollout in enumerate(found.rollouts)
    ]


def _paid(stage: VISDModule, record: StepRecord, group: int, number: int) -> dict[str, float]:
    sample = record.experience.groups[group].sample
    parts = record.experience.breakdowns[group][number]
    return {r.name: parts[r.name] for r in stage.rewards if r.applies_to(sample)}


def _frames(item: Item, data: Any, text: str) -> list[dict[str, Any]]:
    """Frames as the network sees them, with annotated and predicted boxes nearest in time."""
    medium = data.reader.read(item.sample.media, item.sample.media_type)
    frames = []
    for pixels, time_s in zip(medium.frames, medium.times_s, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        frames.append(
            {
                "time_s": time_s,
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "png": base64.b64encode(file.getvalue()).decode(),
                "boxes": [],
                "predicted": [],
            }
        )
    annotated = item.sample.evidence.boxes
    is_relative = data.train_set.box_units == "thousandths"
    predicted = predicted_boxes(parse_response(text, item.sample.envelope), annotated)
    for kind, boxes in (("boxes", annotated), ("predicted", predicted)):
        for box in boxes:
            nearest = frames[nearest_frame(box, medium.times_s)]
            sides = (nearest["width"], nearest["height"]) * 2
            scale = [side / 1000 if is_relative else 1.0 for side in sides]
            corners = [value * factor for value, factor in zip(box.box, scale, strict=True)]
            nearest[kind].append({"name": box.name, "box": corners})
    return frames
