"""What the catalogue lists: every method with its recipe, and what makes two runs the same."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.students import STAGE1
from lit_vdistill.cli.config_files import merged, named_files, with_bases

ON_POLICY, RMSD, VISD, SFT = (
    f"tests/stages/test_{name}.py::" for name in ("on_policy", "rmsd", "visd", "sft")
)
SELF, OPD, CREDIT = (
    f"tests/{name}.py::"
    for name in ("stages/test_self_distillation", "stages/test_opd", "objectives/test_credit")
)
OFF_POLICY = ON_POLICY + "test_a_relative_of_grpo_is_grpo_until_it_is_off_policy"
QWEN35 = ("--config", "configs/models/tiny_qwen3.5.yaml")
NO_CREDIT = VISD + "test_without_mixing_it_is_grpo_to_the_bit"


@dataclass(frozen=True, slots=True)
class Entry:
    """A method, or what others start from."""

    method: str
    recipe: str
    """`configs/<recipe>.yaml`."""
    source: str
    """Where it is described."""
    test: str
    """What ties it to what it is said to be: file::name."""
    beside: str = ""
    """Name of the entry that it differs from in the method alone."""
    overrides: tuple[str, ...] = ()
    """What makes it another than its recipe."""
    variant: str = ""
    """What such a one is called."""
    student: str = ""
    """What the recipe with seed 0 has left in the repository; is not fitted again."""

    @property
    def name(self) -> str:
        """Key of its results."""
        return self.variant or self.recipe


CATALOGUE = (
    Entry(
        "SFT", "sft", "R-MSD §3.4", SFT + "test_the_loss_is_that_of_the_best_response",
        student=STAGE1,
    ),
    Entry(
        "GRPO", "grpo", "arXiv:2402.03300",
        ON_POLICY + "test_the_second_update_compares_with_the_sampler_and_is_clipped",
    ),
    Entry(
        "Dr.GRPO", "dr_grpo", "arXiv:2503.20783",
        ON_POLICY + "test_dr_grpo_sums_tokens_over_the_limit", "grpo",
    ),
    Entry("DAPO", "dapo", "arXiv:2503.14476", OFF_POLICY, "grpo"),
    Entry("GSPO", "gspo", "arXiv:2507.18071", OFF_POLICY, "grpo"),
    Entry("CISPO", "cispo", "arXiv:2506.13585", OFF_POLICY, "grpo"),
    Entry(
        "GAD", "gad", "arXiv:2511.10643",
        RMSD + "test_pool_size_one_uses_the_first_response_only", "sft_rl",
    ),
    Entry(
        "SFT+RL", "sft_rl", "R-MSD Table 1",
        RMSD + "test_without_weight_and_kl_it_is_grpo_to_the_bit",
    ),
    Entry("R-MSD", "rmsd", "R-MSD", RMSD + "test_composite_reward_by_hand", "sft_rl"),
    Entry(
        "RLSD", "rlsd", "arXiv:2604.03128",
        CREDIT + "test_with_the_whole_vocabulary_it_is_the_sampled_token_ratio", "grpo_for_visd",
    ),
    Entry(
        "GRPO on VISD's student and rewards", "visd", "VISD, λ = 0", NO_CREDIT,
        overrides=("--model.credit.mix", "0.0"), variant="grpo_for_visd",
    ),
    Entry("VISD", "visd", "VISD", NO_CREDIT, "grpo_for_visd"),
    Entry(
        "VISD, its teacher sees the evidence clip", "visd_clip", "ours; kin arXiv:2608.14144",
        VISD + "test_with_the_students_own_view_it_is_the_plain_replay", "visd",
    ),
    Entry(
        "control: VISD with feedback on other rollouts", "visd_shuffled", "ours",
        "tests/judge/test_judge.py::test_a_shuffled_judge_tells_no_case_what_is_about_itself",
        "visd",
    ),
    Entry(
        "SFT of a Qwen3.5", "sft", "ours", SFT + "test_the_loss_is_that_of_the_best_response",
        overrides=QWEN35, variant="sft_tiny_qwen3.5",
        student="experiments/stage1_tiny_qwen3.5/student",
    ),
    Entry(
        "R-MSD of a Qwen3.5", "rmsd", "ours", RMSD + "test_composite_reward_by_hand",
        overrides=QWEN35, variant="rmsd_tiny_qwen3.5",
    ),
    Entry(
        "VISD of a Qwen3.5", "visd", "ours", NO_CREDIT,
        overrides=QWEN35, variant="visd_tiny_qwen3.5",
    ),
    Entry(
        "R-MSD → VISD", "rmsd_then_visd", "both papers",
        VISD + "test_the_log_ratio_is_the_papers_on_whole_logits",
    ),
    Entry(
        "OPD", "opd", "arXiv:2306.13649, arXiv:2306.08543",
        OPD + "test_without_divergence_it_is_grpo_to_the_bit",
    ),
    Entry(
        "OPSD", "opsd", "arXiv:2601.18734",
        SELF + "test_the_loss_is_the_divergence_from_the_self_that_is_told", "grpo_for_visd",
    ),
    Entry(
        "SDPO", "sdpo", "arXiv:2601.20802",
        SELF + "test_without_divergence_it_is_grpo_to_the_bit", "grpo_for_visd",
    ),
)  # fmt: skip
STARTS = (
    Entry(
        "SFT, before it: perception", "sft_perception", "ours",
        SFT + "test_the_loss_is_that_of_the_best_response",
    ),
    Entry(
        "SFT, behind it: to read what VISD's teacher is told", "sft_privileged", "ours",
        SFT + "test_every_target_is_learnt_without_and_with_what_is_told",
    ),
    Entry(
        "SFT of GAD: of one answer", "sft_gad", "arXiv:2511.10643",
        SFT + "test_the_target_is_chosen_among_the_first_k_responses",
    ),
    Entry(
        "SFT, longer: OPD's teacher", "sft_longer", "ours",
        SFT + "test_the_loss_is_that_of_the_best_response",
    ),
)  # fmt: skip
"""Recipes that leave a student or a teacher for those above, which fit them where missing."""


_WATCHERS = ("callbacks.TrainingHealth", "callbacks.RunCard")
"""Callbacks that change no number of a run, and came when runs had been made."""


def merged_values(recipe: str) -> dict[str, Any]:
    """All that a recipe says, with what it is based on, and the same of its earlier stages."""
    return with_stages(merged(named_files(with_bases(["--config", f"configs/{recipe}.yaml"]))))


def with_stages(values: dict[str, Any]) -> dict[str, Any]:
    """What a config says, with all that its earlier stages say in place of their files' names."""
    stages = values.get("stage1_config") or []
    return values | {"stage1_config": [merged_values(Path(file).stem) for _, file in stages]}


def hash_of(entry: Entry, steps: int | None) -> str:
    """Changes with every value of a recipe and of its earlier stages, and with no comment.

    Callbacks that only watch are left out: runs with and without them are the same.
    """
    over = [merged([Path(v)]) if v.endswith(".yaml") else v for v in entry.overrides]
    values = [_unwatched(merged_values(entry.recipe)), over, steps]
    said = json.dumps(values, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def _unwatched(tree: Any) -> Any:
    """Without the lines of callbacks that only watch, unless they may stop the run."""
    if isinstance(tree, dict):
        return {key: _unwatched(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unwatched(value) for value in tree if not _only_watches(value)]
    return tree


def _only_watches(value: Any) -> bool:
    is_watcher = isinstance(value, dict) and value.get("class_path") in _WATCHERS
    return is_watcher and not value.get("init_args", {}).get("stop", False)
