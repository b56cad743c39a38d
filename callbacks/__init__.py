"""Lightning callbacks, named in YAML by class: schedules and observers."""

from callbacks.curriculum import Curriculum
from callbacks.ema_teacher_update import EMATeacherUpdate
from callbacks.export_student import ExportStudent
from callbacks.lambda_annealing import LambdaAnnealing
from callbacks.network_summary import NetworkSummary
from callbacks.prediction_writer import PredictionWriter
from callbacks.proximity_annealing import ProximityAnnealing
from callbacks.random_state import RandomState
from callbacks.rollout_table import RolloutTable
from callbacks.run_card import RunCard
from callbacks.run_progress import RunProgress
from callbacks.run_summary import RunSummary
from callbacks.stop_on_signal import StopOnSignal
from callbacks.token_credit_view import TokenCreditView
from callbacks.training_health import TrainingHealth

__all__ = [
    "Curriculum",
    "EMATeacherUpdate",
    "ExportStudent",
    "LambdaAnnealing",
    "NetworkSummary",
    "PredictionWriter",
    "ProximityAnnealing",
    "RandomState",
    "RolloutTable",
    "RunCard",
    "RunProgress",
    "RunSummary",
    "StopOnSignal",
    "TokenCreditView",
    "TrainingHealth",
]
