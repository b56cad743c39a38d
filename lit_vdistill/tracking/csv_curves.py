"""Curves as CSV that a second run does not delete."""

from itertools import count
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class CSVCurves(CSVLogger):
    """Lightning's CSV logger, which would delete the `metrics.csv` of a run that is resumed.

    An older file is kept beside the new one as `metrics.1.csv`, `metrics.2.csv` …
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer; made with the first row."""
        if self._experiment is None:
            _set_aside(Path(self.log_dir, ExperimentWriter.NAME_METRICS_FILE))
        return super().experiment


def _set_aside(path: Path) -> None:
    if path.is_file():
        names = (path.with_name(f"{path.stem}.{n}{path.suffix}") for n in count(1))
        path.rename(next(name for name in names if not name.exists()))
