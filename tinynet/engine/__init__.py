"""The machine under the report: plans, memory, threads, kernels, GPU.

These names are the door: ``tinynet.train`` uses no others.

    Step                one weight update, on the processor or captured for a GPU
    Predictor           outputs outside training
    Workspace           memory that is kept from step to step
    one_blas_thread     BLAS keeps to one thread while our threads share the work
    to_the_end          what Ctrl-C does not leave half done
    uploaded            batches on their way to a GPU
    without_gradient    a network's layers before the first trainable parameter, and the rest
"""

from tinynet.engine import kernels  # noqa: F401 - first: it registers all kernels
from tinynet.engine.gpu.upload import uploaded
from tinynet.engine.memory import Workspace
from tinynet.engine.plan.build import without_gradient
from tinynet.engine.precision import PRECISIONS, check_precision
from tinynet.engine.predict import Predictor
from tinynet.engine.step import Step
from tinynet.engine.threads import one_blas_thread, to_the_end

__all__ = [
    "PRECISIONS",
    "Predictor",
    "Step",
    "Workspace",
    "check_precision",
    "one_blas_thread",
    "to_the_end",
    "uploaded",
    "without_gradient",
]
