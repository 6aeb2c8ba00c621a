"""Where a command computes and how exactly: ``--device`` and ``--precision``.

These are not settings of a run: one that was trained on a GPU can be evaluated on a laptop, and the
reverse. Weights on the disk are float32, wherever they were computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from examples.mura.errors import UserError
from tinynet.doctor import Gpu, read_gpu
from tinynet.engine.precision import PRECISIONS
from tinynet.layer import Layer

DEVICES = ("cpu", "gpu")

Model = TypeVar("Model", bound=Layer)


@dataclass(frozen=True)
class Computing:
    """device   "cpu" or "gpu"
    precision   of tinynet.engine.precision.PRECISIONS
    gpu         its name; "" on the processor
    """

    device: str = DEVICES[0]
    precision: str = PRECISIONS[0]
    gpu: str = ""

    def placed(self, model: Model) -> Model:
        """Move the model to the device, and return it."""
        model.to("cupy" if self.device == "gpu" else "numpy")
        return model

    @property
    def facts(self) -> dict[str, Any]:
        named = {"gpu": self.gpu} if self.gpu else {}
        return {"device": self.device, **named, "precision": self.precision}

    @property
    def flags(self) -> str:
        """The flags that choose this, with a blank before them; "" for the defaults."""
        if self == Computing():
            return ""
        return f" --device {self.device} --precision {self.precision}"

    def __str__(self) -> str:
        return f"{self.gpu or self.device}, {self.precision}"


CPU = Computing()


def computing(device: str, precision: str, reading: Callable[[], Gpu] | None = None) -> Computing:
    """Device and precision, checked against this machine.

    reading   returns the facts about the GPU; None: doctor's ``read_gpu``, of the first device
    Raises UserError, which says what to do, if the machine does not have them.
    """
    if device == "cpu":
        if precision != PRECISIONS[0]:
            raise UserError(
                f"--precision {precision} needs a GPU's tensor cores: add --device gpu, "
                "or leave --precision out"
            )
        return CPU
    gpu = reading() if reading else read_gpu(at_most=1)
    elsewhere = "or compute with --device cpu"
    if not gpu.devices:
        step = gpu.faults[0].step if gpu.faults and gpu.faults[0].step not in gpu.note else ""
        raise UserError(f"--device gpu: {gpu.note}{f': {step}' if step else ''}, {elsewhere}")
    if not gpu.compiles:
        fault = gpu.faults[0]
        raise UserError(f"--device gpu: {fault.found}: {fault.step}, {elsewhere}")
    if precision not in gpu.precisions:
        raise UserError(f"--precision {precision}: {why_not(gpu)}")
    return Computing(device, precision, gpu.devices[0].name)


def why_not(gpu: Gpu) -> str:
    """Why the first device lacks a precision, and what to do."""
    if gpu.faults:
        return f"{gpu.faults[0].found}: {gpu.faults[0].step}"
    first = gpu.devices[0]
    return (
        f"{first.name} has no such tensor cores (compute capability "
        f"{'.'.join(map(str, first.capability))}, want 8.0 or more): give --precision "
        f"{' or '.join(gpu.precisions)}"
    )
