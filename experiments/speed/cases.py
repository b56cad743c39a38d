"""What is measured, as named figures.

Names without a folder are ratios: how many times less time or memory ours takes. `seconds/…`,
`tokens_per_s/…`, `peak_mib/…`, `gflop_per_s/…` say what they are in their first word.
"""

from collections.abc import Sequence

from experiments.speed import arithmetic, contestants, report, steps
from experiments.speed.measure import medians, peak_bytes, steady
from experiments.speed.networks import Arena

WINDOWS = (8, 32, 128)
"""Prompts of a window."""
Figures = dict[str, float]


def quick_case(arena: Arena, rounds: int, windows: Sequence[int] = WINDOWS) -> Figures:
    """All figures of the README's case and of window steps."""
    return compare(arena, rounds) | methods(arena, rounds) | window_steps(arena, rounds, windows)


def compare(arena: Arena, rounds: int) -> Figures:
    """Ours against stock and TRL: training, rollouts, a GRPO step; and its share of arithmetic."""
    train = medians(contestants.training(arena), rounds)
    rollout = medians(contestants.rollout(arena), rounds)
    whole = medians(contestants.grpo_fit(arena, 1), rounds)
    inside = steady(contestants.grpo_fit(arena, steps.NUM_STEPS), max(1, rounds // 2))
    memory = {name: peak_bytes(run) for name, run in contestants.training(arena).items()}
    work = arithmetic.flops(contestants.training(arena)["shared"])
    rate = arithmetic.matrix_rate(arena)
    return {
        "prompt_tokens": len(arena.prompt.input_ids),
        "train_shared_vs_dense": train["dense"] / train["shared"],
        "train_shared_vs_dense_video_once": train["dense, video once"] / train["shared"],
        "rollout_vs_stock": rollout["stock"] / rollout["shared"],
        "step_vs_trl": whole["TRL"] / whole["shared"],
        "grpo_steady_step_vs_trl": inside["TRL"] / inside["shared"],
        "peak_memory_vs_dense": memory["dense"] / memory["shared"],
        "peak_memory_vs_dense_video_once": memory["dense, video once"] / memory["shared"],
        "train_share_of_matmul_rate": work / train["shared"] / rate,
        "gflop_per_s/train": work / train["shared"] / 1e9,
        "gflop_per_s/matmul": rate / 1e9,
        "seconds/train": train["shared"],
        "seconds/train_dense": train["dense"],
        "seconds/rollout": rollout["shared"],
        "seconds/rollout_stock": rollout["stock"],
        "seconds/grpo_step": whole["shared"],
        "seconds/trl_grpo_step": whole["TRL"],
        "seconds/grpo_steady_step": inside["shared"],
        "seconds/trl_grpo_steady_step": inside["TRL"],
    }


def questions(arenas: Sequence[Arena], rounds: int) -> Figures:
    """Several questions about one video, at the rollouts a question of each arena."""
    found: Figures = {"prompt_tokens": len(arenas[0].prompt.input_ids)}
    for arena in arenas:
        took = medians(contestants.questions(arena), rounds)
        name = f"questions_{arena.num_rollouts}"
        found[f"{name}_vs_one_by_one"] = took["one by one"] / took["nested"]
        found[f"{name}_vs_apart"] = took["apart"] / took["nested"]
        for way, seconds in took.items():
            found[f"seconds/{name}_{way.replace(' ', '_')}"] = seconds
    return found


def methods(arena: Arena, rounds: int) -> Figures:
    """A whole step of each stage, and R-MSD's against the plain way."""
    step = medians(contestants.rmsd_step(arena), rounds)
    made = {"rmsd": steps.rmsd, "visd": steps.visd, "opd": steps.opd}
    fits = {f"{name}_steady_step": make(arena) for name, make in made.items()}
    return {
        "step_vs_dense": step["dense"] / step["shared"],
        "seconds/rmsd_step": step["shared"],
        **_figures(fits, max(1, rounds // 2)),
    }


def window_steps(arena: Arena, rounds: int, windows: Sequence[int] = WINDOWS) -> Figures:
    """GRPO steps over windows of short prompts, at one bound on a piece's tokens."""
    fits = {f"window_{size}": steps.window(size, arena.num_tokens) for size in windows}
    found = _figures(fits, max(1, rounds // 2))
    found |= {f"inputs_mib/{name}": fit.input_bytes / 2**20 for name, fit in fits.items()}
    first, last = min(windows), max(windows)
    for kind, name in (("peak_mib", "peak_memory"), ("tokens_per_s", "tokens_per_s")):
        ratio = found[f"{kind}/window_{last}"] / found[f"{kind}/window_{first}"]
        found[f"window_{name}_{last}_vs_{first}"] = ratio
    return found


def grid_case(arena: Arena, rounds: int) -> report.GridRow:
    """Training and rollouts at one prompt length and group size."""
    train = medians(contestants.training(arena), rounds)
    rollout = medians(contestants.rollout(arena), rounds)
    memory = {name: peak_bytes(run) for name, run in contestants.training(arena).items()}
    return report.GridRow(
        prompt_tokens=len(arena.prompt.input_ids),
        rollouts=arena.num_rollouts,
        train_shared_s=train["shared"],
        train_dense_s=train["dense"],
        train_dense_video_once_s=train["dense, video once"],
        rollout_shared_s=rollout["shared"],
        rollout_stock_s=rollout["stock"],
        memory_shared_mib=memory["shared"] / 2**20,
        memory_dense_mib=memory["dense"] / 2**20,
        memory_dense_video_once_mib=memory["dense, video once"] / 2**20,
    )


def _figures(fits: dict[str, steps.Fit], rounds: int) -> Figures:
    """Seconds, tokens a second and peak memory of steps inside a run.

    The peak is that of two steps: in the second, sampling stands beside the optimizer's state and
    whatever is left of the first.
    """
    found: Figures = {}
    seconds = steady({name: fit.of(steps.NUM_STEPS) for name, fit in fits.items()}, rounds)
    for name, fit in fits.items():
        found[f"seconds/{name}"] = seconds[name]
        found[f"tokens_per_s/{name}"] = fit.tokens / seconds[name]
        found[f"peak_mib/{name}"] = peak_bytes(fit.of(2)) / 2**20
    return found
