"""The W&B workspace of a project as code: sections by area of our metric keys."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLLOUTS, CREDIT = "rollout/table", "credit/page"
"""Keys of the table of rollouts and of the page about a rollout's credit."""
_NAME = "lit_vdistill"
_X_AXIS = "trainer/global_step"
"""Optimizer steps; W&B's own count is of calls."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves in one picture."""

    title: str
    metrics: tuple[str, ...] = ()
    pattern: str | None = None
    """Instead of `metrics`: all keys that it finds, for names that a run's options give. Without
    look-around, which W&B does not read."""


@dataclass(frozen=True, slots=True)
class Section:
    """Plots of one area, with its table or pages."""

    name: str
    plots: tuple[Plot, ...]
    table: str | None = None
    media: str | None = None


SECTIONS = (
    Section(
        "val",
        (
            Plot("score", ("val/score",)),
            Plot("mean of sampled answers", pattern=r"^val/mean_at_[0-9]+$"),
            Plot("score by task", pattern="^val/score/"),
            Plot("reward", ("val/reward",)),
            Plot("reward by part", pattern="^val/reward_part/"),
            Plot("form", ("val/format_rate",)),
        ),
    ),
    Section(
        "reward",
        (
            Plot("total", ("reward/total",)),
            Plot("total and parts", pattern="^reward/"),
        ),
    ),
    Section(
        "policy",
        (
            Plot("loss", ("train/loss",)),
            Plot("entropy, nats", ("policy/entropy",)),
            Plot("gradient norm", ("policy/grad_norm",)),
            Plot("tokens clipped", ("policy/clip_fraction",)),
            Plot("KL from the reference", ("kl/ref",)),
        ),
    ),
    Section(
        "disc",
        (
            Plot("accuracy and ties", ("disc/accuracy", "disc/ties")),
            Plot("margin", ("disc/margin",)),
            Plot("loss", ("disc/loss",)),
            Plot("what it pays", ("reward/disc", "disc/reward_share")),
            Plot("correlation with length and quality", pattern="^disc/corr_"),
            Plot("gradient norm", ("disc/grad_norm",)),
            Plot("no teacher response passes", ("match/empty_pool",)),
        ),
    ),
    Section(
        "credit",
        (
            Plot("λ", ("credit/lambda",)),
            Plot("size of Δ, nats", ("credit/abs_log_ratio",)),
            Plot("weight of a token", ("credit/weight_better", "credit/weight_worse")),
        ),
        media=CREDIT,
    ),
    Section(
        "judge",
        (
            Plot("rollouts judged", ("judge/rollouts",)),
            Plot("share of failures", ("judge/failures",)),
        ),
    ),
    Section(
        "rollout",
        (
            Plot("tokens", ("rollout/length",)),
            Plot("truncated", ("rollout/truncated",)),
            Plot("groups without signal", ("rollout/no_signal",)),
            Plot("spread of the reward within a group", ("rollout/reward_std",)),
            Plot("sampler from trainer", ("rollout/logprob_gap",)),
        ),
        table=ROLLOUTS,
    ),
    Section(
        "time",
        (
            Plot("seconds of a step", pattern="^time/"),
            Plot("tokens a second", ("perf/tokens_per_s",)),
            Plot("memory, GiB", ("perf/resident_gib",)),
        ),
    ),
    Section("health", (Plot("step of an alarm", pattern="^health/"),)),
)


def workspace(entity: str, project: str = _NAME, out: str | None = None) -> None:
    """Save our W&B workspace as a view of a project, or write what would be sent.

    Args:
        entity: W&B's user or team.
        project: Its project, as `trainer.logger` names it.
        out: JSON file to write instead, for which no account is needed.

    Raises:
        ValueError: Without an account, or without the package.
    """
    view = build(entity, project)
    if out is not None:
        sent = view._to_model().model_dump_json(by_alias=True)
        text = json.dumps(json.loads(sent), indent=2, ensure_ascii=False)
        Path(out).write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{out}\n")
        return
    from wandb.errors import UsageError

    try:
        view.save()
    except UsageError as error:
        raise ValueError(
            f"workspace: expected an account at W&B ({error}): log in by `wandb login`, or name a "
            "file by --out"
        ) from error
    sys.stdout.write(f"{view.url}\n")


def build(entity: str, project: str, sections: Sequence[Section] = SECTIONS) -> Any:
    """The `wandb_workspaces` object; asks for neither network nor account.

    Args:
        entity: W&B's user or team.
        project: Its project.
        sections: In their order on the page.

    Raises:
        ValueError: When the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as views
    except ImportError as error:
        raise ValueError(
            "workspace: expected the package wandb-workspaces, which is not installed: "
            "pip install 'lit-vdistill[dashboards]'"
        ) from error

    def shown(section: Section) -> list[Any]:
        found: list[Any] = [
            panels.LinePlot(
                title=plot.title, x=_X_AXIS, y=list(plot.metrics), metric_regex=plot.pattern
            )
            for plot in section.plots
        ]
        if section.table is not None:
            found.append(panels.WeavePanelSummaryTable(table_name=section.table))
        if section.media is not None:
            found.append(panels.MediaBrowser(media_keys=[section.media]))
        return found

    return views.Workspace(
        entity=entity,
        project=project,
        name=_NAME,
        sections=[
            views.Section(name=section.name, panels=shown(section), is_open=True)
            for section in sections
        ],
        settings=views.WorkspaceSettings(x_axis=_X_AXIS, smoothing_type="none"),
    )
