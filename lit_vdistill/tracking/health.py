"""Whether a run is collapsing, told from its own curves; no torch, no files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from statistics import median
from typing import Any, Literal

Kind = Literal["level", "factor", "rise"]
Statistic = Literal["median", "third largest", "spread"]
_SAME = 1e-6
"""Spread of a constant reward, as a share of its size: what rounding leaves of it."""
_LEAST_REWARD = 0.05
"""That a reward has to fall from: what begins near nothing, or below, has little to lose."""


@dataclass(frozen=True)
class HealthLimits:
    """Beyond what a run has collapsed; mostly ratios of a window's median to the run's beginning.

    They are this project's own, far outside its runs of all recipes that were looked at: what they
    find is no finer shade of trouble. An infinite one, or 0 for a lower bound, is never met.
    """

    no_signal: float = 0.9
    """Share of groups whose rollouts are all worth the same: nothing is learnt from them."""
    entropy_rise: float = 3.0
    """Entropy over that of the beginning: from here on the policy unlearns to speak."""
    entropy_fall: float = 0.2
    """The same, downwards: rollouts of a prompt are copies of each other."""
    length_rise: float = 3.0
    """Tokens of a completion over those of the beginning."""
    length_fall: float = 0.33
    """The same, downwards."""
    truncated_rise: float = 0.25
    """Share of truncated completions, less that of the beginning."""
    reward_fall: float = 0.3
    """A reward, or their sum, over that of the beginning: unlearnt, whatever else is paid for."""
    kl: float = 0.25
    """Estimated KL to the starting policy, as logged: nats a token; with `loss.reduction`
    `token_sum_over_limit` a token that there might have been, which is less."""
    disc_accuracy_high: float = 0.95
    """Pairs that the discriminator tells apart, once it pays: a style that is easy to see is then
    all that it rewards."""
    disc_accuracy_low: float = 0.45
    """The same, downwards: it pays for what the teacher would not say. A coin's half is no alarm:
    R-MSD's discriminator is near it for a while in runs that end well."""
    grad_norm: float = 10.0
    """Third-largest gradient norm of a window over the median of the beginning: one spike, or two,
    is what clipping is for."""


@dataclass(frozen=True)
class Alarm:
    """What was found, and against what."""

    step: int
    """Optimizer steps that were taken before, as curves count them."""
    alarm: str
    """Name in the logs, behind `health/`."""
    metric: str
    statistic: Statistic
    """What of the window's values was looked at."""
    value: float
    limit: float
    """Beyond which it lies."""
    beginning: float
    """Median of the run's first window."""
    last: float
    """The metric at this step."""
    window: int
    mend: str
    """The option that usually mends it."""

    def __str__(self) -> str:
        """One line for people."""
        over = f"over the last {self.window} steps"
        return (
            f"step {self.step}: {self.alarm}: the {self.statistic} of {self.metric} {over} is "
            f"{self.value:.4g}, beyond {self.limit:.4g}; it was {self.beginning:.4g} (median) in "
            f"the first {self.window} and is {self.last:.4g} now. What usually helps: {self.mend}"
        )


@dataclass(frozen=True)
class _Check:
    alarm: str
    limit: float
    mend: str
    is_above: bool = True
    kind: Kind = "level"
    statistic: Statistic = "median"
    floor: float = 0.0
    """Least beginning that a factor multiplies: three times next to nothing is nothing, and nothing
    is a third of it."""

    def bound(self, beginning: float) -> float:
        """What the statistic is compared with."""
        if self.kind == "factor" and self.is_above:
            return self.limit * max(beginning, self.floor)
        if self.kind == "factor":
            return self.limit * beginning if self.limit and beginning >= self.floor else -inf
        return self.limit + (beginning if self.kind == "rise" else 0.0)


@dataclass
class _Series:
    """Of one metric, the first window and the last."""

    beginning: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, value: float, window: int) -> None:
        self.count += 1
        self.beginning = (self.beginning + [value])[:window]
        self.recent = (self.recent + [value])[-window:]


class HealthWatch:
    """Sees the metrics of each step, and raises each alarm once.

    A metric is judged once it has been measured in `window` steps; against its beginning, once a
    second window has followed the first. Steps in which the policy rests (the discriminator's
    warm-up) count for nothing, and what was not measured in a step neither.
    """

    def __init__(self, window: int = 20, limits: HealthLimits = HealthLimits()) -> None:
        """Begin.

        Args:
            window: Steps that a statistic is of.
            limits: Beyond what a run has collapsed.

        Raises:
            ValueError: For a window of no steps.
        """
        if window < 1:
            raise ValueError(f"window is {window}, expected 1 step or more")
        self.window, self.limits = window, limits
        self.alarms: list[Alarm] = []
        """All so far."""
        self._series: dict[str, _Series] = {}

    def see(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """The alarms of a step, those that are new.

        Args:
            step: Optimizer steps that were taken before.
            metrics: Of this step, as logged; others than are watched may be among them.
        """
        found = []
        for name, value in counted(metrics).items():
            checks = _checks(name, self.limits)
            if not checks:
                continue
            series = self._series.setdefault(name, _Series())
            series.add(value, self.window)
            found += [a for check in checks if (a := self._judge(step, name, series, check))]
        self.alarms += found
        return found

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, from which another watch goes on."""
        series = {name: asdict(series) for name, series in self._series.items()}
        return {"window": self.window, "series": series, "alarms": list(map(asdict, self.alarms))}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on; with another window only the alarms are taken over, and values collected anew."""
        self.alarms = [Alarm(**alarm) for alarm in state_dict["alarms"]]
        is_ours = state_dict["window"] == self.window
        known = state_dict["series"] if is_ours else {}
        self._series = {name: _Series(**series) for name, series in known.items()}

    def _judge(self, step: int, name: str, series: _Series, check: _Check) -> Alarm | None:
        is_relative = check.kind != "level"
        if series.count < self.window * (2 if is_relative else 1):
            return None
        value, beginning = _of(series.recent, check.statistic), median(series.beginning)
        bound = check.bound(beginning)
        is_beyond = value > bound if check.is_above else value < bound
        if not is_beyond or any(check.alarm == alarm.alarm for alarm in self.alarms):
            return None
        last, statistic = series.recent[-1], check.statistic
        return Alarm(
            step, check.alarm, name, statistic, value, bound, beginning, last, self.window,
            check.mend,
        )  # fmt: skip


def counted(metrics: Mapping[str, float]) -> dict[str, float]:
    """What of a step's metrics says anything about the run's health.

    Args:
        metrics: As logged. Left out are values that are no number, all while the policy rests
            (`disc/warmup`), gradient norms of 0 (a network at rest), and the share of groups
            without signal where a group has one rollout (no `rollout/reward_std`).
    """
    if metrics.get("disc/warmup", 0.0) > 0.0:
        return {}
    is_alone = "rollout/reward_std" not in metrics
    return {
        name: value
        for name, value in metrics.items()
        if isfinite(value)
        and not (name.endswith("/grad_norm") and value == 0.0)
        and not (name == "rollout/no_signal" and is_alone)
    }


def _of(values: Sequence[float], statistic: Statistic) -> float:
    if statistic == "median":
        return median(values)
    if statistic == "third largest":
        return sorted(values)[-min(3, len(values))]
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    # A reward that is always paid in full is learnt.
    is_full = abs(low - 1.0) < _SAME and abs(high - 1.0) < _SAME
    return inf if is_full or len(values) < 2 else (high - low) / size if size else 0.0


def _checks(name: str, limits: HealthLimits) -> list[_Check]:
    area, _, what = name.partition("/")
    if area == "reward":
        return _of_reward(what, limits)
    if what == "grad_norm":
        return [_gradient(area, limits)]
    if area == "disc":
        return _of_discriminator(limits) if what == "accuracy" else []
    return _of_policy(limits).get(name, [])


def _of_reward(reward: str, limits: HealthLimits) -> list[_Check]:
    same = "look at it in rollouts.jsonl; no prompt asks for what it pays, or its weight is for "
    same += "nothing (model.rewards), or all rollouts are alike (model.sampling.temperature)"
    fall = "a larger weight of it in model.rewards, or a smaller one of what rises in its place; a "
    fall += "lower model.optim.lr, a higher model.loss.kl_coef. Harmless where "
    fall += "callbacks.Curriculum or ProximityAnnealing makes it harder to earn"
    constant = _Check(f"constant_reward/{reward}", _SAME, same, is_above=False, statistic="spread")
    if reward == "disc":  # grows less as the discriminator learns, which is judged by its accuracy
        return [constant]
    falls = _Check(
        f"reward_fall/{reward}", limits.reward_fall, fall, is_above=False, kind="factor",
        floor=_LEAST_REWARD,
    )  # fmt: skip
    return [constant, falls]


def _gradient(network: str, limits: HealthLimits) -> _Check:
    rate = "model.disc.lr" if network == "disc" else "model.optim.lr"
    mend = f"a lower {rate}, a smaller trainer.gradient_clip_val, a longer model.optim.warmup_ratio"
    return _Check(
        f"gradient/{network}", limits.grad_norm, mend, kind="factor", statistic="third largest"
    )


def _of_discriminator(limits: HealthLimits) -> list[_Check]:
    sure = "a lower model.disc.lr, or another model.disc.read_out; see disc/corr_length, too"
    lost = "more model.disc.warmup_max_steps, another model.disc.read_out, or "
    lost += "model.disc.reward_weight 0, which is rules alone"
    high, low = limits.disc_accuracy_high, limits.disc_accuracy_low
    return [
        _Check("discriminator_sure", high, sure),
        _Check("discriminator_lost", low, lost, is_above=False),
    ]


def _of_policy(limits: HealthLimits) -> dict[str, list[_Check]]:
    spread = "model.loss.resample_no_signal, a higher model.sampling.temperature, a larger "
    spread += "model.loss.group_size, or questions of another difficulty (callbacks.Curriculum)"
    rate = "a lower model.optim.lr, a higher model.loss.kl_coef, or a slower "
    rate += "callbacks.EMATeacherUpdate (rate) where the policy teaches itself"
    narrow = "a higher model.loss.clip_high, a lower model.optim.lr, a higher model.loss.kl_coef"
    long = "model.loss.reduction token_mean or token_sum_over_limit with model.loss.advantage "
    long += "dr_grpo, or a smaller model.credit.mix; read rollouts.jsonl first"
    short = "a reward of the reasoning in model.rewards, a smaller model.credit.mix or "
    short += "model.distill.coef; read rollouts.jsonl first"
    room = "a larger model.sampling.max_completion_tokens; where lengths rise too, as for them"
    return {
        "rollout/no_signal": [_Check("no_signal", limits.no_signal, spread)],
        "policy/entropy": [
            _Check("entropy_rise", limits.entropy_rise, rate, kind="factor", floor=0.01),
            _Check("entropy_fall", limits.entropy_fall, narrow, is_above=False, kind="factor"),
        ],
        "rollout/length": [
            _Check("length_rise", limits.length_rise, long, kind="factor", floor=1.0),
            _Check("length_fall", limits.length_fall, short, is_above=False, kind="factor"),
        ],
        "rollout/truncated": [_Check("truncated", limits.truncated_rise, room, kind="rise")],
        "kl/ref": [_Check("kl", limits.kl, rate)],
    }
