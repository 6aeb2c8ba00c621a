"""Train and run networks: ``fit``, ``TrainStep``, ``evaluate``, ``predict``.  Report §2.3."""

from tinynet.train.average import WeightAverage
from tinynet.train.evaluation import METRICS, evaluate, predict
from tinynet.train.fit import best_row, fit
from tinynet.train.learning_rate import find_learning_rate
from tinynet.train.step import TrainingError, TrainStep

__all__ = [
    "METRICS",
    "TrainStep",
    "TrainingError",
    "WeightAverage",
    "best_row",
    "evaluate",
    "find_learning_rate",
    "fit",
    "predict",
]
