"""Grey levels in the form that a network's weights were trained on.

Networks that were trained on colour photographs get the grey image in all three channels, each
scaled and shifted as that channel was in their training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.mura.augment import DEVIATION, MEAN
from examples.mura.errors import UserError
from tinynet.interop.preprocess import KINDS, imagenet_preprocess

FORMS = ("centred", *KINDS)  # ours, as ``augment.normalise`` gives it; then ImageNet's


@dataclass(frozen=True)
class InputForm:
    """How a normalised grey image becomes the network's input.

    name       one of FORMS
    channels   1, or 3: the grey image three times
    Raises UserError if there is no such form with so many channels.
    """

    name: str = "centred"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"--channels is {self.channels}, want 1, 3, or 0 to choose by weights")
        if self.channels == 1 and self.name != "centred":
            raise UserError(
                f"--preprocessing {self.name} has three colours: want it with --channels 3"
            )

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input (N, S, S, channels) from x (N, S, S, 1), as ``normalise`` gives it.

        That of "centred" is x itself.
        """
        if self.name == "centred":
            return x if self.channels == 1 else np.repeat(x, self.channels, axis=-1)
        pixels = np.clip((x * np.float32(DEVIATION) + np.float32(MEAN)) * 255, 0, 255)
        return imagenet_preprocess(pixels, self.name)


GREY = InputForm()
