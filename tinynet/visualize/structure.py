"""A network as a picture shows it: boxes, paths side by side, repetitions.

Read from the tree of layers and the shapes that they declare; nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tinynet.layer import Layer, Shape, join

ASIDE, REPEAT = "aside", "repeat"
STRIPS = {"normalisation", "activation", "dropout", "reshape"}  # kinds that join the box before


class Placed(NamedTuple):
    """A layer, its dotted name and the shape of its input."""

    name: str
    layer: Layer
    input_shape: Shape

    @property
    def is_strip(self) -> bool:
        """Whether it is drawn as a strip below the layer before it: a ReLU, say."""
        same = tuple(self.layer.output_shape(self.input_shape)) == self.input_shape
        return same and self.layer.kind in STRIPS


@dataclass(frozen=True)
class Node:
    """Part of the flow from input to output.

    layers   a box with strips below it; where paths meet, the strips after that
    paths    nodes side by side; an empty path is the input itself
    meet     how paths end: the ``wiring`` of a container; ASIDE: the second one is a branch with
             an output; REPEAT: the only one is run ``times`` times, the last time as ``last``
    """

    name: str
    input_shape: Shape
    output_shape: Shape
    layers: tuple[Placed, ...] = ()
    paths: tuple[tuple[Node, ...], ...] = ()
    meet: str = ""
    times: int = 1
    last: str = ""


def read(layer: Layer, shape: Shape, name: str = "") -> tuple[Node, ...]:
    """Return the nodes of a network, one after the other; containers are taken apart.

    Raises ValueError if an input of ``shape`` does not fit.
    """
    wiring = layer.promise("wiring")
    if wiring == "series":
        return _chain(layer, shape, name)
    output_shape = tuple(layer.output_shape(shape))
    if wiring:
        paths = [read(child, shape, join(name, key)) for key, child in layer.children().items()]
        if len(paths) == 1 and wiring in ("sum", "gate"):
            paths.append(())  # the shortcut, or what is gated
        if any(paths):
            return (Node(name, shape, output_shape, (), tuple(paths), wiring),)
    box = Node(name, shape, output_shape, layers=(Placed(name, layer, shape),))
    return _by_children(layer, shape, name) or (box,)


def _chain(layer: Layer, shape: Shape, name: str) -> tuple[Node, ...]:
    nodes: tuple[Node, ...] = ()
    after_block = False
    for key, child in layer.children().items():
        inner = read(child, shape, join(name, key))
        # in ResNet the ReLU after the addition belongs to the block, the next stage's does not
        nodes = _glued(nodes, inner, to_paths=after_block and not child.children())
        after_block = child.promise("wiring") != "series"
        shape = tuple(child.output_shape(shape))
    if name and len(nodes) == 1 and nodes[0].paths:
        return (replace(nodes[0], name=name),)  # named as the block, not as the part inside
    return nodes


def _glued(nodes: tuple[Node, ...], more: tuple[Node, ...], to_paths: bool) -> tuple[Node, ...]:
    """Both; strips at the start of ``more`` join the box, or the paths, before them."""
    if nodes and more and not more[0].paths and (to_paths or not nodes[-1].paths):
        strips = more[0].layers
        if all(placed.is_strip for placed in strips):
            return (*nodes[:-1], replace(nodes[-1], layers=nodes[-1].layers + strips), *more[1:])
    return nodes + more


def _by_children(layer: Layer, shape: Shape, name: str) -> tuple[Node, ...]:
    """A network with its own forward pass, by its children; () if its ``walk`` has none of them.

    Children that continue from one another's output shape are the flow; the others branch off
    where ``walk`` comes to them.
    """
    walked = list(layer.walk(shape, name))

    def first(path: str) -> int:
        inside = (i for i, (n, *_) in enumerate(walked) if f"{n}.".startswith(f"{path}."))
        return next(inside, len(walked))

    nodes: tuple[Node, ...] = ()
    branches = []
    for key, child in layer.children().items():
        path = join(name, key)
        if (start := first(path)) < len(walked):
            begins = tuple(walked[start][2])
            inner = read(child, begins, path)
            if begins == shape:
                nodes, shape = nodes + inner, tuple(child.output_shape(shape))
            else:
                branches.append((start, Node(path, begins, begins, (), ((), inner), ASIDE)))
    for start, branch in branches:
        place = sum(first(node.name) < start for node in nodes)
        nodes = (*nodes[:place], branch, *nodes[place:])
    return nodes


def folded(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes with repetitions drawn once, in every path.

    A single box is folded from three on, anything larger from two on.
    """
    nodes = [replace(node, paths=tuple(map(folded, node.paths))) for node in nodes]
    keys = [_likeness(node) for node in nodes]
    done: list[Node] = []
    i = 0
    while i < len(nodes):
        period, times = _longest_run(keys[i:], least=2 if nodes[i].paths else 3)
        part, i = tuple(nodes[i : i + period]), i + period * times
        if times == 1:
            done += part
        else:
            ends = part[0].input_shape, nodes[i - 1].output_shape
            last = nodes[i - period].name
            done.append(Node(part[0].name, *ends, (), (part,), REPEAT, times, last))
    return tuple(done)


def _longest_run(keys: Sequence[Any], least: int) -> tuple[int, int]:
    """(period, times) of the repetition that begins here and saves most; (1, 1) for none."""
    best, saved = (1, 1), 0
    for period in range(1, len(keys) // 2 + 1):
        times = 1
        while keys[times * period : (times + 1) * period] == keys[:period]:
            times += 1
        if times >= (least if period == 1 else 2) and (times - 1) * period > saved:
            best, saved = (period, times), (times - 1) * period
    return best


def _likeness(node: Node, channels: bool = True) -> Any:
    """What two nodes share if one can stand for the other.

    channels   whether a box must have equal numbers of channels, too; inside paths they may
               differ, as in DenseNet, whose blocks see more and more channels
    """
    cut = None if channels and not node.paths else -1
    inside = channels and node.meet == REPEAT
    paths = [[_likeness(part, inside) for part in path] for path in node.paths]
    labels = [placed.layer.label() for placed in node.layers]
    return node.input_shape[:cut], node.output_shape[:cut], node.meet, node.times, labels, paths
