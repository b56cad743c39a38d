"""Open-ended answers by the facts that they state."""

from dataclasses import dataclass

from lit_vdistill.responses.claims import clauses, matched
from lit_vdistill.responses.grammar import ParsedResponse, parse_response
from lit_vdistill.rewards.content import answer_quality
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import Facts, VideoSample


@dataclass(frozen=True, slots=True)
class FactCounts:
    """What has become of the facts that an answer had to state."""

    stated: int
    wrong: int
    """Claims of an asked kind that contradict a fact, or are about nothing that is there."""
    missing: int
    """Neither stated nor contradicted."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """The three as parts of 1; 0 throughout where there was nothing to state or to deny."""
        total = max(self.stated + self.wrong + self.missing, 1)
        return self.stated / total, self.wrong / total, self.missing / total


def count_facts(answer: str, facts: Facts) -> FactCounts:
    """Grade an answer in words against the facts of its sample.

    A fact is stated when its word stands in a clause about its thing and no other word of its kind
    does; see `responses/claims.py`. What is said twice counts once.

    Args:
        answer: The inside of the answer block.
        facts: What is asked, of which things, and all words for it.
    """
    asked = set(facts.asked)
    things = [{k: v for k, v in thing.items() if k in asked} for thing in facts.things]
    said = clauses(answer, facts)
    stated: set[tuple[int, str]] = set()
    denied: set[tuple[int | None, str, str]] = set()
    for clause, about in zip(said, matched(said, things), strict=True):
        for claim in clause.claims:
            if claim.kind not in asked:
                continue
            if about is not None and things[about].get(claim.kind) == claim.value:
                stated.add((about, claim.kind))
            else:
                denied.add((about, claim.kind, claim.value))
    contradicted = {(about, kind) for about, kind, _ in denied}
    due = {(t, kind) for t, thing in enumerate(things) for kind in thing}
    right = stated - contradicted
    return FactCounts(len(right), len(denied), len(due - stated - contradicted))


class StatedFacts(Reward):
    """Share of the asked facts that an open-ended answer states, less by each wrong claim.

    No paper has it: where R-MSD pays open-ended answers nothing by rule, a world that knows its
    facts can. Reported at validation in any case; paid only where a config lists it.
    """

    name = "facts"

    def applies_to(self, sample: VideoSample) -> bool:
        """Samples that come with facts to state."""
        return bool(sample.facts.asked and sample.facts.things)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Grade the answer block; 0 in an invalid envelope."""
        if response.problem is not None or not self.applies_to(sample):
            return 0.0
        return count_facts(response.answer, sample.facts).shares[0]


def graded_quality(text: str, sample: VideoSample) -> float:
    """How good a response truly is, in [0, 1], where facts are known: for measurements.

    Closed-ended: `answer_quality`; open-ended: the share of facts that it states.
    """
    parsed = parse_response(text, sample.envelope)
    if sample.task.is_closed_ended:
        return answer_quality(parsed, sample)
    return StatedFacts()(parsed, sample)
