"""What libraries say to all of their users, and of which nothing follows for one of ours."""

import logging
import re
import warnings
from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, WandbLogger
from transformers.utils import logging as transformers_logging

_WARNINGS = (
    ".*does not have many workers",  # one process may load the data
    ".*dataloader is not resumable",  # ours is
    "Found .* in eval mode at the start of training",  # a frozen reference is
    ".*LeafSpec.* is deprecated",  # between Lightning and torch
    ".*gradient_checkpointing_enable.* is deprecated",  # what every supported version knows
    "Experiment logs directory .* exists and is not empty",  # ours keeps what lies there
    "Checkpoint directory .* exists and is not empty",  # whose run may use it, `run_folder` knows
)
_LINES = re.compile(r"💡 Tip|TPU available: False|Setting (ds_)?accelerator to")
_SPEAKERS = ("", "lightning", "lightning.pytorch", "lightning.fabric")


def hush() -> None:
    """Leave out lines by their text, each named above; anything else they say is heard."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in _SPEAKERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(is_worth_reading)
    logging.getLogger("DeepSpeed").addFilter(is_worth_reading)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()


def is_worth_reading(record: logging.LogRecord) -> bool:
    """Whether a line of a log says anything to a user."""
    return not _LINES.search(record.getMessage())


def hush_wandb(loggers: Iterable[Logger]) -> None:
    """Keep Lightning from handing W&B a setting that W&B warns of, whatever its value."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger._wandb_init.pop("anonymous", None)
