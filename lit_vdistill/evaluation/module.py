"""The test loop of an evaluation: a student is asked, and each answer is on disk at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchmetrics import MeanMetric

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.evaluation.benchmark import Answered, Benchmark, Verdict
from lit_vdistill.evaluation.scoring import PREDICTIONS
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.readers.records import BadSample
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.answering import AnsweringModule
from lit_vdistill.tracking.predictions import Prediction, PredictionFile
from lit_vdistill.types import Rollout, VideoSample


class EvaluationModule(AnsweringModule):
    """Answers a benchmark's questions once greedily, and n times by sampling where asked.

    What it logs is of the questions of this process' run alone, by rules: `right`, the share of
    right answers, and `problems`, the share of answers that cannot be read or are cut off. The
    benchmark's scores are made of the file of all answers (`evaluation/scoring.py`).
    """

    def __init__(
        self,
        student: VLMConfig,
        sampling: SamplingConfig,
        num_samples: int,
        benchmark: Benchmark,
        samples: Sequence[VideoSample],
        folder: Path,
    ) -> None:
        """Remember what is asked.

        Args:
            student: The network.
            sampling: How long answers may be, and how those beside the greedy one are drawn.
            num_samples: n, of pass@k and mean@n; 0 for the greedy answer alone.
            benchmark: Says what an answer is worth.
            samples: All of its questions.
            folder: Where answers go; those that lie there are not asked for again.
        """
        super().__init__(student, sampling)
        self.num_samples, self.benchmark = num_samples, benchmark.by_rules()
        self.samples = {sample.id: sample for sample in samples}
        self.folder = folder
        self.right, self.problems = MeanMetric(nan_strategy="error"), MeanMetric()

    def setup(self, stage: str) -> None:
        """Open the file of answers, once processes know of each other."""
        self.answers = PredictionFile(self.folder / PREDICTIONS, goes_on=True)

    def teardown(self, stage: str) -> None:
        """Put the answers of all processes together, in the order of the benchmark."""
        places = {name: place for place, name in enumerate(self.samples)}
        self.answers.finish(places.__getitem__)

    def on_test_epoch_start(self) -> None:
        """See that answers come from the student's weights."""
        self.engine.synchronise()

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer the questions of a batch, and write down what could not be asked."""
        greedy, sampled = self._answers(batch)
        predictions = [
            self.prediction(item, answer, {}, others)
            for item, (answer,), others in zip(batch.items, greedy, sampled, strict=True)
            if not item.is_padding
        ]
        predictions += map(self._unasked, batch.bad)
        verdicts = self.benchmark.verdicts([_answered(made) for made in predictions])
        self.answers.add(
            replace(made, scores=verdict.values).row()
            for made, verdict in zip(predictions, verdicts, strict=True)
        )
        self._count(predictions, verdicts)

    def _answers(
        self, batch: PromptBatch
    ) -> tuple[Sequence[Sequence[Rollout]], Sequence[Sequence[Rollout]]]:
        """The greedy answer of each item, and n more."""
        if not len(batch):
            return [], []
        if not self.engine.is_apart():
            batch = batch.with_prompts(self.look(batch.prompts))
        plain = replace(self.sampling, temperature=0.0, top_p=1.0, top_k=0)
        greedy = self.engine.generate(batch.prompts, 1, plain, seed=self.seed)
        if not self.num_samples:
            return greedy, [()] * len(batch)
        n, seed = self.num_samples, self.seed
        return greedy, self.engine.generate(batch.prompts, n, self.sampling, seed=seed)

    def _unasked(self, bad: BadSample) -> Prediction:
        """A question whose medium cannot be read: it has an answer that is worth nothing."""
        return Prediction(self.samples[bad.id], None, (), {}, problem=f"unasked: {bad.reason}")

    def _count(self, predictions: Sequence[Prediction], verdicts: Sequence[Verdict]) -> None:
        name = self.benchmark.right
        rights = [verdict.values[name] for verdict in verdicts if name in verdict.values]
        for value in rights:
            self.right.update(value)
        for made, verdict in zip(predictions, verdicts, strict=True):
            self.problems.update(float(bool(_answered(made).problem or verdict.problem)))
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True}
        self.log("right", self.right, **options)
        self.log("problems", self.problems, **options)


def _answered(made: Prediction) -> Answered:
    if made.answer is None:
        return Answered(made.sample, "", made.problem)
    problem = "cut off" if made.answer.is_truncated else None
    return Answered(made.sample, made.answer.text, problem)
