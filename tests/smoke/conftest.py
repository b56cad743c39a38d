"""Whole runs of the command on a two-video world."""

import pytest


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Runs a training command in this process with everything made small."""
    from lit_vdistill.__main__ import main

    shared = tmp_path_factory.mktemp("shared")

    def run(config, run_dir, *overrides, command="fit"):
        main(
            [
                command,
                *("--config", f"configs/{config}.yaml"),
                *("--run_dir", str(run_dir)),
                "--stage1_config=null",
                "--model.policy.path=tiny/qwen3-vl",
                "--model.sampling.max_completion_tokens=6",
                "--model.validation.num_samples=2",
                f"--data.sources.media_root={shared / 'world'}",
                f"--data.sources.cache_dir={shared / 'frames'}",
                "--data.loader.batch_size=3",
                "--data.loader.val_batch_size=5",
                "--data.world.train_videos=2",
                "--data.world.val_videos=1",
                "--trainer.max_steps=2",
                "--trainer.val_check_interval=2",
                "--trainer.logger=false",
                "--trainer.enable_model_summary=false",
                *overrides,
            ]
        )
        import wandb

        # A run left open would take over the next test's.
        wandb.finish()

    return run


@pytest.fixture
def rewarded_by_text(monkeypatch):
    """An untrained student earns nothing: rewards by its text give groups a signal all the same."""
    from lit_vdistill.stages import on_policy

    def by_text(rewards, text, sample):
        return {reward.name: sum(map(ord, text)) % 7 / 7 for reward in rewards}

    monkeypatch.setattr(on_policy, "reward_breakdown", by_text)
