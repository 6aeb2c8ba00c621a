"""Wrong backward passes of layers made of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Layer, Shape
from tinynet.layers.activations import Sigmoid
from tinynet.layers.batchnorm import BatchNorm
from tinynet.layers.combine import Concat, Residual, Sequential
from tinynet.layers.dense import Dense
from tinynet.testing.planted.bench import LayerBench


def _dense_sigmoid_dense(cls: type[Sequential], rng: np.random.Generator, shape: Shape) -> Layer:
    n = shape[-1]
    return cls(Dense(n, n, rng=rng), Sigmoid(), Dense(n, n, rng=rng))


def _projected(cls: type[Residual], rng: np.random.Generator, shape: Shape) -> Layer:
    n = shape[-1]
    return cls(Sequential(Dense(n, n, rng=rng), Sigmoid()), skip=Dense(n, n, rng=rng))


def _identity(cls: type[Residual], rng: np.random.Generator, shape: Shape) -> Layer:
    n = shape[-1]
    return cls(Sequential(Dense(n, n, rng=rng), BatchNorm(n)))


def _two_branches(cls: type[Concat], rng: np.random.Generator, shape: Shape) -> Layer:
    n = shape[-1]
    return cls(Dense(n, 2, rng=rng), Sequential(Dense(n, 2, rng=rng), Sigmoid()))


sequential = LayerBench("sequential", Sequential, _dense_sigmoid_dense, shape=(3, 4))
identity = LayerBench("residual", Residual, _identity, shape=(3, 4))
projected = LayerBench("residual, projected", Residual, _projected, shape=(3, 4))
concat = LayerBench("concat", Concat, _two_branches, shape=(3, 4))


@sequential.plant()
class SkipsALayer(Sequential):
    """The activation is left out on the way back."""

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """dx through the first and the last layer."""
        dy = self.layers[2].backward(dy, cache[2])
        return self.layers[0].backward(dy, cache[0])


@sequential.plant()
class GoesForwards(Sequential):
    """The gradient flows from the first layer to the last."""

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """dx in the order of the forward pass."""
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            dy = layer.backward(dy, layer_cache)
        return dy


@sequential.plant("a loop's variable read after the loop")
class GradientOfTheOtherLayer(Sequential):
    """The first layer's gradient is added to the last layer's parameter."""

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """dx; misplaces the gradient of the first weight."""
        first, last = self.layers[0].parameters(), self.layers[2].parameters()
        kept = first["weight"].grad.copy()
        dx = super().backward(dy, cache)
        last["weight"].grad += first["weight"].grad - kept
        first["weight"].grad[...] = kept
        return dx


@sequential.plant()
class CacheOfTheOtherLayer(Sequential):
    """Both dense layers get the last one's cache."""

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """dx with one cache for two layers."""
        return super().backward(dy, [cache[2]._replace(w=cache[0].w), *cache[1:]])


@sequential.plant()
class StopsAtTheFirstLayer(Sequential):
    """The gradient of the input is not passed on: dy of the first layer is returned."""

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """The gradient of the first layer's output for that of its input."""
        for layer, layer_cache in zip(self.layers[:0:-1], cache[:0:-1], strict=True):
            dy = layer.backward(dy, layer_cache)
        self.layers[0].backward(dy, cache[0])
        return dy


@identity.plant()
class ShortcutForgotten(Residual):
    """dx through the main path only: y = main(x) + x gives 1 more."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx without the shortcut's part."""
        return self.main.backward(dy, cache[0])


@identity.plant()
class ShortcutOnly(Residual):
    """dx = dy: the main path's part is computed, and lost."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx without the main path's part."""
        self.main.backward(dy, cache[0])
        return dy.copy()


@identity.plant()
class ShortcutAddedInPlace(Residual):
    """dy += dx of the main path: dy is somebody else's."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx in the memory of dy."""
        dy += self.main.backward(dy, cache[0])
        return dy


@projected.plant()
class ProjectionTakenForTheIdentity(Residual):
    """The shortcut has a layer; the gradient goes round it."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx with dy for the shortcut's part."""
        return self.main.backward(dy, cache[0]) + dy


@projected.plant()
class ProjectionOfTheMainPathsGradient(Residual):
    """The shortcut receives what came out of the main path, not dy."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx through both paths, one after the other."""
        assert self.skip is not None
        dx = self.main.backward(dy, cache[0])
        return dx + self.skip.backward(dx, cache[1])


@projected.plant()
class HalfToEachPath(Residual):
    """Each path receives half of dy."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx, half of it."""
        return super().backward(dy / 2, cache)


@concat.plant()
class LastBranchOnly(Concat):
    """= for +=: dx is that of the last branch."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx of one branch."""
        caches, (width, _) = cache
        self.branches[0].backward(dy[..., :width], caches[0])
        return self.branches[1].backward(dy[..., width:], caches[1])


@concat.plant()
class SlicesSwapped(Concat):
    """The branches take their channels of dy in the wrong order."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx of swapped slices."""
        width = cache[1][0]
        return super().backward(np.roll(dy, width, axis=-1), cache)


@concat.plant()
class FirstSliceForAll(Concat):
    """The start of the slice is not moved on."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx of one slice."""
        width = cache[1][0]
        first = dy[..., :width]
        return super().backward(np.concatenate([first, first], axis=-1), cache)


@concat.plant()
class BranchesAveraged(Concat):
    """dx is the mean over the branches, where it is the sum."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx divided by the number of branches."""
        return super().backward(dy, cache) / len(self.branches)
