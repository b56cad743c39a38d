"""Which networks a run has."""

import sys
from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary.model_summary import get_human_readable_count


class NetworkSummary(ModelSummary):
    """Prints a line with each network, its size, and how much of all is trained.

    The stock table counts FLOPs, which nobody has counted (0), and modules in train mode.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        *_: Any,
        **__: Any,
    ) -> None:
        """Print; called on the first process only.

        Args:
            summary_data: Columns of the stock table with their heads.
            total_parameters: Of all networks.
            trainable_parameters: Of those that are not frozen.
        """
        columns = dict(summary_data)
        networks = [
            f"{name} {count.strip()}"
            for name, count in zip(columns["Name"], columns["Params"], strict=True)
            if count.strip() not in ("0", "")
        ]
        whole, trained = map(get_human_readable_count, (total_parameters, trainable_parameters))
        sys.stdout.write(
            f"parameters: {', '.join(networks)}; {trained.strip()} of {whole.strip()} trained\n"
        )
