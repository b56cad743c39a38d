"""Sampling by a vLLM server, which gets the policy's weights and each prompt's ids and pixels."""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill import processes
from lit_vdistill.models.families import family_of
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.weights import checkpoint_weights
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.parity import likely_cause
from lit_vdistill.rollouts.vllm_prompts import served_prompt
from lit_vdistill.rollouts.weight_transport import FileTransport, NCCLTransport, WeightTransport
from lit_vdistill.served.errors import EndpointFailed, ServedError, Unreachable
from lit_vdistill.served.vllm_client import RolloutServer, Sampled
from lit_vdistill.types import Rollout

_IN_FLIGHT = 32
"""Prompts that a process has the server work on at a time: enough to fill its batches, and no more
of their pixels in memory."""
_NEVER = -100.0
"""The least that vLLM lets a logit be lowered by: a probability of e^-100."""


@dataclass(slots=True)
class Drawing:
    """Completions that are being drawn: of each prompt one request."""

    prompts: Sequence[EncodedPrompt]
    num_rollouts: int
    sampling: SamplingConfig
    seed: int
    calls: "list[Future[list[Sampled]]]" = field(default_factory=list)


class VLLMRolloutEngine:
    """Samples from a server's copy of the policy; satisfies `RolloutEngine`.

    All of its public methods are collectives: process 0 sends weights, all send their own prompts.
    A server that goes away is waited for, gets the weights again and is asked again what it has
    not answered; draws depend on request and weights alone, so that nothing else changes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        url: str = "http://127.0.0.1:8000",
        transport: Literal["file", "nccl"] = "file",
        folder: str | None = None,
        patience_s: float = 600.0,
    ) -> None:
        """Remember whom to ask; nothing is asked before `synchronise`.

        Args:
            model: The policy.
            processor: Its processor.
            url: Of a server that `serve --rollouts` has started.
            transport: How weights get there; the same as there.
            folder: Of transport `file`: one that the server sees too; None is memory of this
                machine.
            patience_s: Seconds that a call may take, and that a server which does not answer is
                waited for.
        """
        self.model = model
        self.tokenizer = processor.tokenizer
        self.server = RolloutServer(url, patience_s)
        self.transport: WeightTransport = (
            FileTransport(folder) if transport == "file" else NCCLTransport()
        )
        known, never = self.tokenizer.get_vocab(), family_of(model.config).never_sampled
        self._bias = {str(known[name]): _NEVER for name in never if name in known}
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="rollouts")
        self._outstanding: list[Drawing] = []
        self._run, self._version, self._count = "", "", 0

    def is_apart(self) -> bool:
        """See `RolloutEngine.is_apart`."""
        return True

    def synchronise(self) -> None:
        """Give the server the policy's present weights; see `RolloutEngine.synchronise`.

        Raises:
            ServedError: When it does not take them, or nobody answers for `patience_s`.
        """
        for drawing in self._outstanding:
            wait(drawing.calls)
        name = processes.gather(secrets.token_hex(4))[0]  # once nobody waits for older weights
        self._run = self._run or name
        self._count += 1
        self._version = f"{self._run}-{self._count}"
        is_first = processes.rank() == 0
        weights = checkpoint_weights(self.model, is_kept=is_first)

        def send() -> None:
            self.transport.take(weights)
            self._renew()

        self._by_first(send)

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        *,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        """Sample `num_rollouts` completions of every prompt; see `RolloutEngine.generate`.

        Raises:
            ServedError: When a request is refused, or nobody answers for `patience_s`.
        """
        return self.finish(self.begin(prompts, num_rollouts, sampling, seed=seed))

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        *,
        seed: int,
    ) -> Drawing:
        """Have completions drawn in the background; `finish` waits for them."""
        assert self._version, "synchronise comes first"
        drawing = Drawing(prompts, num_rollouts, sampling, seed)
        drawing.calls += [self._submit(drawing, prompt) for prompt in prompts]
        self._outstanding.append(drawing)
        return drawing

    def finish(self, drawing: Drawing) -> list[tuple[Rollout, ...]]:
        """What `begin` has had drawn; what the server has lost is asked again.

        Raises:
            ServedError: When a request is refused, or nobody answers for `patience_s`.
        """
        moved_s, before = time.monotonic(), len(drawing.calls)
        while True:
            errors = [call.exception() for call in drawing.calls]
            lost = [i for i, error in enumerate(errors) if isinstance(error, Unreachable)]
            refused = [e for e in errors if e is not None and not isinstance(e, Unreachable)]
            _raise_anywhere(refused[0] if refused else None)
            if not any(processes.gather(bool(lost))):
                break
            if len(lost) < before:
                moved_s, before = time.monotonic(), len(lost)
            self._by_first(lambda since_s=moved_s: self._revive(since_s))
            for i in lost:
                drawing.calls[i] = self._submit(drawing, drawing.prompts[i])
        self._outstanding.remove(drawing)
        return [
            tuple(
                self._rollout(prompt, index, sampled, drawing.sampling)
                for index, sampled in enumerate(call.result())
            )
            for prompt, call in zip(drawing.prompts, drawing.calls, strict=True)
        ]

    def likely_cause(self, prompts: Sequence[EncodedPrompt]) -> str:
        """See `RolloutEngine.likely_cause`: found out by what the server makes of less and less."""
        return likely_cause(self, self.model, prompts)

    def _submit(self, drawing: Drawing, prompt: EncodedPrompt) -> "Future[list[Sampled]]":
        return self._pool.submit(self._ask, prompt, drawing, self._version)

    def _ask(self, prompt: EncodedPrompt, drawing: Drawing, version: str) -> list[Sampled]:
        """One attempt, by weights of a version.

        Raises:
            Unreachable: When nobody answers, or who does has other weights.
        """
        request = served_prompt(self.model.config, prompt, self.model.dtype, version)
        request["sampling_params"] = self._told(prompt, drawing)
        found = self.server.generate(request)
        versions = {label for sampled in found for label in sampled.versions}
        if versions != {version}:
            raise Unreachable(f"{self.server.url}: has begun anew, with weights {sorted(versions)}")
        return found

    def _told(self, prompt: EncodedPrompt, drawing: Drawing) -> dict[str, Any]:
        """The request's sampling parameters."""
        sampling, said = drawing.sampling, f"{drawing.seed}\x1f{prompt.sample_id}"
        key = hashlib.blake2b(said.encode(), digest_size=6).digest()
        return {
            "n": drawing.num_rollouts,
            "max_tokens": sampling.max_completion_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": int.from_bytes(key, "big"),  # and the index of each of the n
            "logprobs": 0,  # of what was drawn
            "logit_bias": self._bias,
            "stop_token_ids": [self.tokenizer.eos_token_id],
            "ignore_eos": True,  # whatever else the checkpoint calls an end
            "detokenize": False,
            "output_kind": 2,  # all n at once
        }

    def _renew(self) -> None:
        """Send the weights that the transport has, patiently; on process 0."""

        def once() -> None:
            try:
                send = self.transport.send
                self.server.renew(lambda: send(self.server), self._version)
            except Unreachable:
                self.transport.forget()
                raise

        self.server.patiently(once)

    def _revive(self, since_s: float) -> None:
        """Wait for a server that has gone away and give it the weights again; on process 0."""
        if time.monotonic() - since_s > self.server.patience_s:
            raise EndpointFailed(
                f"{self.server.url}: has answered nothing for {self.server.patience_s:g} s "
                "(patience_s), though it is there now and then"
            )
        self.server.wait()
        if self.server.patiently(self.server.version) != self._version:
            self.transport.forget()
            self._renew()

    def _by_first(self, work: Callable[[], None]) -> None:
        """Let process 0 do something while the others wait; its error is everybody's."""
        problem = None
        if processes.rank() == 0:
            try:
                work()
            except ServedError as error:
                problem = error
        _raise_anywhere(problem)

    def _rollout(
        self, prompt: EncodedPrompt, index: int, sampled: Sampled, sampling: SamplingConfig
    ) -> Rollout:
        is_finished = sampled.ids[-1] == self.tokenizer.eos_token_id
        said = sampled.ids[: len(sampled.ids) - is_finished]
        return Rollout(
            sample_id=prompt.sample_id,
            index=index,
            completion_ids=sampled.ids,
            rollout_logprobs=sampled.logprobs,
            text=self.tokenizer.decode(said),
            is_truncated=not is_finished,
            temperature=sampling.temperature,
        )


def _raise_anywhere(problem: BaseException | None) -> None:
    """Raise on all processes what one of them has found; a collective."""
    if problem is not None and not isinstance(problem, ServedError):
        raise problem
    for told in processes.gather(None if problem is None else str(problem)):
        if told is not None:
            raise ServedError(told) from problem
