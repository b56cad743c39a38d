"""A benchmark of letters: the smallest there can be, with an item of several questions."""

import json

from lit_vdistill.evaluation.benchmark import (
    Benchmark,
    Needed,
    Published,
    ScoredItem,
    Verdict,
    cluster_of,
    groups_of,
)
from lit_vdistill.readers.records import read_records
from lit_vdistill.responses.grammar import option_letter, parse_response
from lit_vdistill.tracking.predictions import Prediction, PredictionFile
from lit_vdistill.types import Rollout


class Toy(Benchmark):
    """Right letters; `odds` is a function of their mean."""

    name = "toy"
    headline = "accuracy"
    right = "accuracy"
    scores = {"accuracy": "share of right letters", "odds": "of right to wrong"}
    needed = (Needed("test.jsonl", "the questions, 1 kB", "nowhere"),)
    published = (Published("a model", "a paper, Table 1", {"accuracy": 0.5}),)
    remarks = ("a toy",)

    def __init__(self, is_paired: bool = False) -> None:
        """Score questions of one `meta.item` together."""
        self.is_paired = is_paired

    def read(self, root):
        """As our own records."""
        return read_records(root / "test.jsonl")

    def verdicts(self, answered):
        """By the letter."""
        letters = [option_letter(parse_response(one.text).answer) for one in answered]
        return [
            Verdict(
                {"accuracy": float(letter == one.sample.answer)}, None if letter else "no letter"
            )
            for one, letter in zip(answered, letters, strict=True)
        ]

    def items(self, answered, verdicts):
        """Each by itself, or pairs, which are right where both are."""
        if not self.is_paired:
            return super().items(answered, verdicts)
        members = {}
        for one, verdict in zip(answered, verdicts, strict=True):
            members.setdefault(one.sample.meta["item"], []).append((one.sample, verdict))
        return [
            ScoredItem(
                name,
                cluster_of(group[0][0]),
                {"accuracy": min(verdict.values["accuracy"] for _, verdict in group)},
                groups_of(group[0][0]),
                tuple(sample.id for sample, _ in group),
            )
            for name, group in members.items()
        ]

    def derived(self, means):
        """Undefined where all is right."""
        share = means["accuracy"]
        return {} if share == 1 else {"odds": share / (1 - share)}


def answer(letter):
    """A response."""
    return f"<think>a</think><answer>{letter}</answer>"


def write_run(folder, make_sample, letters, *, sampled=(), blind=False, student="s", **settings):
    """A run folder: right answer B; two questions a video; None = could not be asked."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"class_path": "tests.evaluation.toy.Toy", "init_args": {}}
    told = {"benchmark": named, "student": student, "blind": blind, **settings}
    (folder / "run.json").write_text(json.dumps(told))
    file = PredictionFile(folder / "predictions.jsonl")
    for i, letter in enumerate(letters):
        meta = {"video": f"v{i // 2}", "item": f"i{i // 2}", "groups": [f"half/{i % 2}"]}
        sample = make_sample(id=f"q{i}", meta=meta)
        texts = [letter, *(sampled[i] if sampled and letter else "")]
        rollouts = [
            Rollout(sample.id, k, (5,), (-0.5,), answer(text), False, 0.0)
            for k, text in enumerate(texts)
            if text
        ]
        greedy = rollouts[0] if letter else None
        problem = None if letter else "unasked: torn"
        made = Prediction(sample, greedy, (), {}, tuple(rollouts[1:]), problem=problem)
        file.add([made.row()])
    file.finish({f"q{i}": i for i in range(len(letters))}.__getitem__)
    return folder
