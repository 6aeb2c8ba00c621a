import numpy as np
import pytest

from tinynet.layer import Parameter
from tinynet.optimizers import Adam, AdamW
from tinynet.regularizers import is_weight


def parameters():
    rng = np.random.default_rng(0)
    return {"0.weight": Parameter(rng.normal(size=(3, 2))), "0.bias": Parameter(rng.normal(size=2))}


def run(optimizer, made, steps=20):
    for step in range(steps):
        for i, p in enumerate(made.values()):
            p.grad[...] = np.random.default_rng([step, i]).normal(size=p.shape) + p.value
        optimizer.step(made)
    return made


def test_without_a_gradient_weights_shrink_by_a_share():
    made = parameters()
    start = {name: p.value.copy() for name, p in made.items()}
    AdamW(0.1, weight_decay=0.5, decays=is_weight).step(made)
    np.testing.assert_allclose(made["0.weight"].value, 0.95 * start["0.weight"], rtol=1e-15)
    np.testing.assert_array_equal(made["0.bias"].value, start["0.bias"])


def test_is_adam_without_decay():
    got, want = run(AdamW(0.01, weight_decay=0.0), parameters()), run(Adam(0.01), parameters())
    for name, p in want.items():
        np.testing.assert_array_equal(got[name].value, p.value)


def test_equals_torchs():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    made, theirs = parameters(), [torch.tensor(p.value) for p in parameters().values()]
    optimizer = torch.optim.AdamW(theirs, 0.01, weight_decay=0.1)
    ours = AdamW(0.01, weight_decay=0.1)
    for step in range(50):
        for i, (p, t) in enumerate(zip(made.values(), theirs, strict=True)):
            p.grad[...] = np.random.default_rng([step, i]).normal(size=p.shape)
            t.grad = torch.tensor(p.grad)
        ours.step(made)
        optimizer.step()
    for p, t in zip(made.values(), theirs, strict=True):
        np.testing.assert_allclose(p.value, t.numpy(), rtol=1e-12)
