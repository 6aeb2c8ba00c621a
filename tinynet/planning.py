"""Moved to tinynet.engine.plan.build."""

from tinynet.engine.plan.build import inference_plan, training_plans, without_gradient  # noqa: F401
