"""Train and run networks: ``fit``, ``TrainStep``, ``evaluate``, ``predict``.  Report §2.3."""

from tinynet.train.evaluation import METRICS, evaluate, predict
from tinynet.train.fit import best_row, fit
from tinynet.train.step import TrainingError, TrainStep

__all__ = ["METRICS", "TrainStep", "TrainingError", "best_row", "evaluate", "fit", "predict"]
