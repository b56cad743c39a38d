"""Lightning callbacks, named in YAML by class: schedules and observers."""

from callbacks.export_student import ExportStudent
from callbacks.prediction_writer import PredictionWriter
from callbacks.random_state import RandomState
from callbacks.rollout_table import RolloutTable
from callbacks.run_progress import RunProgress
from callbacks.run_summary import RunSummary

__all__ = [
    "ExportStudent",
    "PredictionWriter",
    "RandomState",
    "RolloutTable",
    "RunProgress",
    "RunSummary",
]
