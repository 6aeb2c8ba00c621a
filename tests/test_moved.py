"""Import paths of version 0.1 that its README and pages named."""

from importlib import import_module

import pytest

import tinynet

OLD = {
    "tinynet.checkpoint": "load_checkpoint save_checkpoint",
    "tinynet.data": "ArrayDataset generator prefetch",
    "tinynet.evaluation": "evaluate predict",
    "tinynet.features": "cached_features",
    "tinynet.kernels": "explain",
    "tinynet.loss": "Loss one_hot",
    "tinynet.optimizer": "Optimizer",
    "tinynet.precision": "use_precision",
    "tinynet.seeing": "TraceCallback backward_trace draw grad_cam overlaid",
    "tinynet.seeing.shapes": "shapes",
    "tinynet.step": "TrainStep TrainingError",
    "tinynet.summary": "summary",
    "tinynet.train": "TrainStep evaluate fit predict",
    "tinynet.transfer": "replace_head",
}


@pytest.mark.parametrize("path", OLD)
def test_old_paths_lead_to_the_new_places(path):
    module = import_module(path)
    for name in OLD[path].split():
        assert getattr(module, name).__name__ == name


def test_old_attributes_of_the_root():
    assert tinynet.kernels.explain is tinynet.explain
    assert tinynet.seeing.draw is tinynet.draw
