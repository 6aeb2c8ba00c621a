"""engine/plan/epilogues.py: what follows a convolution or a batch norm, and who wins a window."""

import numpy as np
import pytest

from tests.layers.support import normal
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_WINNER,
    conv2d_fused_forward,
    epilogue_backward,
    epilogue_forward,
)
from tinynet.gradient_check import check_backward


@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_gradients(epilogue):
    """The reference's, by finite differences; everything else is compared with the reference."""
    z = normal(0, (2, 4, 5, 2))
    forward = lambda z: epilogue_forward(z, epilogue)  # noqa: E731
    check_backward(forward, epilogue_backward, tuple(z))


def test_the_winner_is_the_first_of_equals_and_no_cell_where_relu_is_0():
    z = np.array([[-1.0, -2, 3, 3], [-3, 0, 1, 3]]).reshape(1, 2, 4, 1)
    y, epilogue = epilogue_forward(z, "relu_pool")
    np.testing.assert_array_equal(y.reshape(-1), [0, 3])
    np.testing.assert_array_equal(epilogue.winner.reshape(-1), [NO_WINNER, 0])
    assert epilogue.winner.dtype == np.uint8


def test_a_tie_across_the_diagonal_goes_to_the_upper_right():
    z = np.array([[0.0, 3], [3, 0]]).reshape(1, 2, 2, 1)
    for forward in (conv2d_fused_forward, conv2d_fused_forward.reference):
        _, (_, epilogue) = forward(z, np.ones((1, 1, 1, 1)), epilogue="relu_pool")
        assert epilogue.winner.item() == 1
