"""A network as a picture sees it: boxes, what follows what, where paths part and meet.

Read off the tree of layers and the shapes that they declare; nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence as Parts
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tinynet.layer import Layer, Shape, join
from tinynet.layers import Concat, Gate, Residual, Sequential
from tinynet.seeing.words import STRIPS, class_name, describe, quantity

ADD, MULTIPLY, CONCAT, ASIDE = "+", "×", "concatenate", "aside"


@dataclass(frozen=True)
class Row:
    """One layer: its words and kind, and what a pointer resting on it is told."""

    text: str
    kind: str
    tip: str
    strip: bool


@dataclass(frozen=True)
class Block:
    """A box: a layer, and below it the strips of what follows and keeps the shape."""

    name: str
    rows: tuple[Row, ...]
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True)
class Fork:
    """Paths from one point that meet again.

    paths   lists of nodes side by side; an empty one is the input itself
    meet    how they are joined: ADD, MULTIPLY, CONCAT; ASIDE: the first goes on, the others end
    after   what follows where they meet, as strips
    """

    name: str
    paths: tuple[tuple[Node, ...], ...]
    meet: str
    after: tuple[Row, ...]
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True)
class Repeat:
    """The same nodes so many times over; ``parts`` is the first time.

    last   name of the last one     grows   whether only the numbers of channels differ
    """

    name: str
    parts: tuple[Node, ...]
    times: int
    last: str
    grows: bool
    input_shape: Shape
    output_shape: Shape


Node: TypeAlias = Block | Fork | Repeat


def read(layer: Layer, input_shape: Shape, name: str = "") -> tuple[Node, ...]:
    """The nodes of a network, one after the other; containers are taken apart.

    Raises ValueError if an input of ``input_shape`` does not fit.
    """
    shape = tuple(input_shape)
    if is_plain(layer, Sequential):
        return _chain(layer, shape, name)
    if is_plain(layer, Residual):
        return (_fork(layer, shape, name, ADD),)
    if is_plain(layer, Concat):
        return (_fork(layer, shape, name, CONCAT),)
    if is_plain(layer, Gate):
        return (_fork(layer, shape, name, MULTIPLY),)
    if layer.children():
        return _hand_written(layer, shape, name)
    return (_block(layer, shape, name),)


def is_plain(layer: Layer, kind: type[Layer]) -> bool:
    """Whether it is of that kind, with a forward pass that no subclass has replaced."""
    return isinstance(layer, kind) and type(layer).forward is kind.forward


def _chain(layer: Layer, shape: Shape, name: str) -> tuple[Node, ...]:
    nodes: tuple[Node, ...] = ()
    own = False  # whether the last node is a direct child: strips belong to their own block
    for child_name, child in layer.children().items():
        inner = read(child, shape, join(name, child_name))
        nodes = glued(nodes, inner, to_fork=own and not child.children())
        own, shape = not is_plain(child, Sequential), tuple(child.output_shape(shape))
    if name and len(nodes) == 1 and isinstance(nodes[0], Fork):
        return (replace(nodes[0], name=name),)  # the block that it is, not the part within
    return nodes


def _fork(layer: Layer, shape: Shape, name: str, meet: str) -> Fork:
    paths = [read(child, shape, join(name, key)) for key, child in layer.children().items()]
    if len(paths) == 1 and meet != CONCAT:
        paths.append(())  # the shortcut, or what is gated
    return Fork(name, tuple(paths), meet, (), shape, tuple(layer.output_shape(shape)))


def _block(layer: Layer, shape: Shape, name: str) -> Block:
    words, kind = describe(layer)
    count = sum(p.value.size for p in layer.parameters().values())
    facts = [f"{name}: {layer!r}"] if name else [repr(layer)]
    facts += [f"{count:,} parameters"] if count else []
    work = layer.multiply_adds(shape)
    facts += [f"{quantity(work)} multiply-adds"] if work else []
    strip = class_name(layer) in STRIPS
    row = Row(words, kind, ", ".join(facts), strip)
    return Block(name, (row,), shape, tuple(layer.output_shape(shape)))


def _hand_written(layer: Layer, shape: Shape, name: str) -> tuple[Node, ...]:
    """A network with a forward pass of its own, by its children, in the order of its ``walk``.

    What leads from the input to the output is drawn as the flow; every other child as a side
    branch, from where ``walk`` comes to it.
    """
    prefix = name + "." if name else ""
    order: list[str] = []  # innermost layers
    starts: dict[str, Shape] = {}  # child -> its input
    for path, _, inner_shape in layer.walk(shape, name):
        order.append(path)
        starts.setdefault(path.removeprefix(prefix).split(".")[0], tuple(inner_shape))
    children = {key: child for key, child in layer.children().items() if key in starts}
    if not children:
        return (_block(layer, shape, name),)
    flow = _flow(children, starts, tuple(layer.output_shape(shape)))
    nodes: tuple[Node, ...] = ()
    for key in flow:
        nodes = glued(nodes, read(children[key], starts[key], join(name, key)), to_fork=False)
    for key in [key for key in children if key not in flow]:
        path = join(name, key)
        began = _first(order, path)
        place = sum(_first(order, node.name) < began for node in nodes)
        aside = ((), read(children[key], starts[key], path))
        fork = Fork(path, aside, ASIDE, (), starts[key], starts[key])
        nodes = (*nodes[:place], fork, *nodes[place:])
    return nodes


def _first(order: list[str], name: str) -> int:
    """Where a layer's first innermost layer comes."""
    inside = (i for i, path in enumerate(order) if path == name or path.startswith(name + "."))
    return next(inside, len(order))


def _flow(children: dict[str, Layer], starts: dict[str, Shape], output: Shape) -> list[str]:
    """Children on the way from input to output, in their order.

    Followed back from the output: each ends in the shape in which the next begins. Several may
    end like the output, such as auxiliary classifiers; the one that most others lead to is it.
    """
    ends = {key: tuple(child.output_shape(starts[key])) for key, child in children.items()}
    heads = [key for key in children if ends[key] == output] or list(children)
    flow: list[str] = []
    for head in heads:
        way = [head]
        for key in reversed(children):
            if key != head and ends[key] == starts[way[0]]:
                way.insert(0, key)
        flow = max(flow, way, key=len)
    return flow


def glued(nodes: tuple[Node, ...], more: tuple[Node, ...], to_fork: bool) -> tuple[Node, ...]:
    """Both, the first of ``more`` joined as strips to the box before it, if that is what it is.

    to_fork   whether it may be joined to the meeting of paths, too
    """
    if not nodes or not more:
        return nodes + more
    before, first, *rest = nodes[-1], *more
    strips = isinstance(first, Block) and all(row.strip for row in first.rows)
    if not strips or first.input_shape != first.output_shape:
        return nodes + more
    assert isinstance(first, Block)
    joined: Node
    if isinstance(before, Block):
        joined = replace(before, rows=before.rows + first.rows)
    elif isinstance(before, Fork) and before.meet != ASIDE and to_fork:
        joined = replace(before, after=before.after + first.rows)
    else:
        return nodes + more
    return (*nodes[:-1], joined, *rest)


def folded(nodes: Parts[Node]) -> tuple[Node, ...]:
    """Repeated nodes drawn once, in every path.

    A run of one box by itself is folded from three on, anything larger from two on.
    """
    inner: list[Node] = []
    for node in nodes:
        if isinstance(node, Fork):
            node = replace(node, paths=tuple(folded(path) for path in node.paths))
        inner.append(node)
    keys = [likeness(node) for node in inner]
    done: list[Node] = []
    i = 0
    while i < len(inner):
        period, times = _longest_run(keys[i:], inner[i])
        part = tuple(inner[i : i + period])
        if times > 1:
            lasts = inner[i + (times - 1) * period : i + times * period]
            exact = all(n.input_shape == n.output_shape for n in part) or (
                part[0].input_shape == part[-1].output_shape
            )
            done.append(
                Repeat(
                    name=part[0].name,
                    parts=part,
                    times=times,
                    last=lasts[0].name,
                    grows=not exact,
                    input_shape=part[0].input_shape,
                    output_shape=lasts[-1].output_shape,
                )
            )
        else:
            done += part
        i += period * times
    return tuple(done)


def _longest_run(keys: Parts[Any], first: Node) -> tuple[int, int]:
    """(period, times) of the repetition that begins here and saves most; (1, 1) for none."""
    best, saved = (1, 1), 0
    for period in range(1, len(keys) // 2 + 1):
        times = 1
        while keys[times * period : (times + 1) * period] == keys[:period]:
            times += 1
        single = period == 1 and isinstance(first, Block)
        if times > (2 if single else 1) and (times - 1) * period > saved:
            best, saved = (period, times), (times - 1) * period
    return best


def likeness(node: Node, whole: bool = True) -> Any:
    """What two nodes have in common if one can stand for the other.

    whole   whether a box must have the same numbers of channels, too; inside of paths they may
            differ, as in DenseNet, whose blocks see ever more channels
    """
    sides = node.input_shape[:-1], node.output_shape[:-1]
    if isinstance(node, Block):
        shapes = (node.input_shape, node.output_shape) if whole else sides
        return shapes, tuple(row.text for row in node.rows)
    if isinstance(node, Fork):
        paths = tuple(tuple(likeness(part, False) for part in path) for path in node.paths)
        return sides, node.meet, paths, tuple(row.text for row in node.after)
    return sides, node.times, tuple(likeness(part, whole) for part in node.parts)
