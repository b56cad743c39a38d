"""A network that answers prompts: loaded once, sharded as its strategy says."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import PreTrainedModel

from lit_vdistill.data.batch import Item
from lit_vdistill.models.families import tower_of
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.sharding import even_turns, is_sharded, shard
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.rollouts.engine import RolloutEngine, SamplingConfig, token_turns
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.tracking.predictions import Prediction, prompt_as_read
from lit_vdistill.types import Rollout


class AnsweringModule(LightningModule):
    """Has a policy and the engine that samples from it; stages train it, an evaluation asks it."""

    policy: PreTrainedModel | None

    def __init__(self, policy: VLMConfig, sampling: SamplingConfig) -> None:
        """Remember the configuration; networks are loaded in `configure_model`.

        Args:
            policy: The network.
            sampling: How completions are drawn.
        """
        super().__init__()
        self.policy_config, self.sampling, self.seed = policy, sampling, sampling.seed
        self.policy = None

    def configure_model(self) -> None:
        """Load the networks once, inside the strategy's context so that it may shard them."""
        if self.policy is None:
            self._announce_zero3()
            self.load_networks()
            self._shard_networks()

    def load_networks(self) -> None:
        """Make all networks; a stage that has more than the policy adds its own."""
        self.processor = load_processor(self.policy_config.path)
        self.policy = load_model(self.policy_config)
        make = self.sampling.engine or HFRolloutEngine
        self.engine: RolloutEngine = make(self.policy, self.processor)

    def _announce_zero3(self) -> None:
        """Tell transformers that weights are sharded as they are loaded (DeepSpeed ZeRO-3).

        Without it `from_pretrained` copies whole tensors into shards and fails on their sizes. The
        announcement lasts as long as the object that makes it.
        """
        config = getattr(self.trainer.strategy, "config", None) if self._trainer else None
        if isinstance(config, dict) and config.get("zero_optimization", {}).get("stage") == 3:
            from transformers.integrations.deepspeed import HfDeepSpeedConfig

            self._zero3 = HfDeepSpeedConfig(config)

    def _shard_networks(self) -> None:
        """Shard every network by FSDP2, where the strategy leaves that to the module.

        Raises:
            ValueError: When processes are meant to share a layer's work, which ours cannot.
        """
        if not self._trainer or not isinstance(self.trainer.strategy, ModelParallelStrategy):
            return
        mesh = self.trainer.strategy.device_mesh
        if mesh["tensor_parallel"].size() > 1:
            raise ValueError(
                "strategy.tensor_parallel_size: expected 1 (weights are sharded over data_parallel "
                f"only), got {mesh['tensor_parallel'].size()}; set it, and data_parallel_size to "
                f"the number of all processes, {self.trainer.world_size}"
            )
        for network in self.children():
            if any(True for _ in network.parameters()):
                shard(network, mesh["data_parallel"])

    def look(self, prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
        """Prompts as the policy's tower sees them, without a graph, where they were before.

        In turns within `sampling.max_tokens`.
        """
        assert self.policy is not None
        sizes = [len(prompt.input_ids) for prompt in prompts]
        bound = max(self.sampling.max_tokens, *sizes, 1)
        seen: list[EncodedPrompt] = []
        turns = token_turns(sizes, bound)
        if is_sharded(tower_of(self.policy.model)):
            turns = even_turns(turns, self.device)
        with torch.no_grad():
            for turn in turns:
                moved = [prompt.to(self.device) for prompt in prompts[turn]]
                looked = encode_vision(self.policy.model, moved)
                seen += [prompt.to(prompts[0].input_ids.device) for prompt in looked]
        return seen[: len(prompts)]

    def prediction(
        self,
        item: Item,
        answer: Rollout,
        scores: Mapping[str, float],
        sampled: Sequence[Rollout] = (),
    ) -> Prediction:
        """The record of an item's answers."""
        prompt = prompt_as_read(item.prompt, self.processor.tokenizer)
        return Prediction(item.sample, answer, item.prompt.times_s, scores, tuple(sampled), prompt)
