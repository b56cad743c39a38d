"""Runs training commands one after another in this process: a program, not a test.

python tests/smoke/cluster_fit.py COMMANDS, a JSON list of lists of arguments, in each process.
"""

import json
import sys

from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from lit_vdistill.__main__ import main
from lit_vdistill.stages import on_policy


def by_text(rewards, response, sample):
    """An untrained student earns nothing; its text gives groups a signal all the same."""
    return {reward.name: sum(map(ord, response.text)) % 7 / 7 for reward in rewards}


if __name__ == "__main__":
    on_policy.reward_breakdown = by_text
    for command in json.loads(sys.argv[1]):
        main(command)
        unset_hf_deepspeed_config()  # lasts as long as its stage, which some callback holds
