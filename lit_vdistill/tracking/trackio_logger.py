"""Curves, tables and pages for Trackio, which is local and needs no account."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.logger import _convert_params
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from trackio.run import Run


class TrackioLogger(Logger):
    """Writes where `trackio show --project <project>` reads: `$TRACKIO_DIR`, or Trackio's own.

    `pip install 'lit-vdistill[trackio]'` first. Trackio writes beside the run: what it could not
    write it warns of, and the run goes on; `csv/metrics.csv` has every curve in any case.
    """

    def __init__(self, project: str, name: str) -> None:
        """Write nothing before the first value.

        Args:
            project: Its runs are shown together.
            name: Of the run; one of the same name is not gone on with, but stands beside it.
        """
        super().__init__()
        self._project, self._run_name = project, name
        self._config: dict[str, Any] = {}
        self._run: Run | None = None
        self._last_step: int | None = None

    @property
    def name(self) -> str:
        """The project's."""
        return self._project

    @property
    def version(self) -> str:
        """The run's name."""
        return self._run_name

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run":
        """Trackio's run, begun by the first who asks for it.

        Raises:
            ModuleNotFoundError: Says how to install Trackio.
        """
        if self._run is None:
            try:
                import trackio
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    "TrackioLogger: trackio is not installed: pip install 'lit-vdistill[trackio]'"
                ) from error
            self._run = trackio.init(
                project=self._project,
                name=self._run_name,
                config=self._config,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **more: Any) -> None:
        """Add options to the run's config, also once it has begun."""
        self._config |= _convert_params(params)
        if self._run is not None:
            self._run.config = self._run.config | self._config  # type: ignore[operator]
            # Trackio sends a config with the first row alone, unless told that it has not yet.
            self._run._config_logged = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers, or media of Trackio's, of an optimizer step."""
        self.experiment.log(dict(metrics), step=step)
        self._last_step = step

    @rank_zero_only
    def log_table(
        self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]], step: int
    ) -> None:
        """Log a table, as `WandbLogger` does."""
        import trackio

        table = trackio.Table(columns=list(columns), data=[list(row) for row in data])
        self.log_metrics({key: table}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Wait until all is written."""
        if self._run is not None:
            if not self._run._config_logged:
                with self._run._client_lock:  # of two configs in a batch the first would win
                    self._run._flush_queues_inline()
                self._run.log({}, step=self._last_step)
            self._run.finish()
