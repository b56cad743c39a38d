"""Whether an engine of its own draws from the policy, and what it may be where it does not."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from lit_vdistill import processes
from lit_vdistill.models.families import family_of
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs, gap_problem
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.rollouts.engine import RolloutEngine, SamplingConfig

_PROBE = SamplingConfig(max_completion_tokens=16, temperature=0.0)


def gap_of(
    engine: RolloutEngine,
    model: PreTrainedModel,
    prompts: Sequence[EncodedPrompt],
    sampling: SamplingConfig = _PROBE,
    num_rollouts: int = 1,
) -> tuple[float, float]:
    """How far an engine's log-probabilities of its own tokens are from the policy's, in nats.

    A collective. Nothing may have changed the policy since the engine was synchronised.

    Args:
        engine: Draws.
        model: The policy.
        prompts: Some.
        sampling: How; the default is short and greedy.
        num_rollouts: Of each.

    Returns:
        The mean of the absolute differences, and the largest.
    """
    groups = engine.generate(prompts, num_rollouts, sampling, seed=0)
    rows = [Row(i, r.completion_ids) for i, group in enumerate(groups) for r in group]
    with torch.no_grad():
        moved = [prompt.to(model.device) for prompt in prompts]
        scores = completion_logprobs(model, moved, rows)
    drawn = [logprob for group in groups for r in group for logprob in r.rollout_logprobs]
    change = (scores.logprobs[scores.mask].double().cpu() - torch.tensor(drawn).double()).abs()
    return float(change.mean()), float(change.max())


def likely_cause(
    engine: RolloutEngine, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]
) -> str:
    """Why an engine of its own may not draw from the policy: what it still gets right tells.

    A prompt is asked without its media, then with a medium of one placeholder. A collective: what
    one process finds decides for all, and one that has texts alone asks as often as the others.
    """
    prompt = next((p for p in prompts if p.kind != "text"), prompts[0])
    is_feature = prompt.token_types > 0
    plain = replace(
        prompt, kind="text", input_ids=prompt.input_ids[~is_feature],
        token_types=prompt.token_types[~is_feature], pixels=None, grid_thw=None, features=None,
    )  # fmt: skip
    if _is_off(engine, model, plain):
        return (
            "a text alone differs too: the engine's weights or its precision are others than the "
            "policy's (is it another student, are weights of it left out of an update, is its "
            "dtype the policy's?)"
        )
    glimpse = family_of(model.config).glimpse(model.config, replace(prompt, features=None))
    if not any(processes.gather(glimpse is not None)):
        return "a text alone does not differ: it is about pixels, the tower or positions"
    if _is_off(engine, model, glimpse or plain):
        return (
            "a text alone does not differ, a medium of one placeholder does: the engine's tower "
            "sees other pixels, or has other weights (is the server started without "
            "--no-mm-device-do-normalize, so that it normalises what is normalised? does it keep "
            "what it saw before an update?)"
        )
    return (
        "neither a text alone differs nor a medium of one placeholder: the engine gives the tokens "
        "of a medium, or those behind it, other positions"
    )


def _is_off(engine: RolloutEngine, model: PreTrainedModel, prompt: EncodedPrompt) -> bool:
    mean, largest = gap_of(engine, model, [prompt])
    found = gap_problem(model, mean, largest, is_apart=True)
    return any(processes.gather(found is not None))
