"""Backward passes of any origin as two functions of arrays, by duck typing.

Arguments, outputs and gradients may be nested (lists, tuples, dicts), tensors of another library,
or complex. ``Flat`` hands the check one array for each leaf and one output: several outputs are
laid out one after the other, and a complex array has its parts, real and imaginary, on a last axis.
``flat_pair`` finds the backward pass of a torch function or module, a custom_vjp, a function that
returns its vjp, or an object that keeps state. No other library is imported: whoever passes a
tensor has imported its library.
"""

from __future__ import annotations

import copy
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, described, library_of
from tinynet.gradient_check.checkable import TooManyGradients, converted, same
from tinynet.gradient_check.report import GradientError, GradientReport

Pair = tuple[Callable[..., Any], Callable[[Any, Any], Any]]
GRADIENT_NAMES = ("d{}", "grad_{}", "{}_grad")
PARAMETERS, GRADIENTS = ("params", "parameters", "weights"), ("grads", "gradients")
TORCH_SEED, OBJECT_SEED = 243_000_009, 243_000_010


class Flat:
    """Two functions of nested arguments as functions of arrays: forward(*arrays), backward.

    arrays, names   the leaves of ``args``: the float ones are differentiated, all are passed on
    inputs          the names of those that belong to no object
    conjugate       complex gradients and dy are ∂L/∂Re − i ∂L/∂Im (JAX), else + i (PyTorch)
    """

    def __init__(
        self, functions: Pair, args: Sequence[Any], names: Sequence[str], conjugate: bool = False
    ) -> None:
        self.functions, self.args, self.arguments = functions, tuple(args), tuple(names)
        found = [leaf for a, n in zip(args, names, strict=True) for leaf in leaves(a, n)]
        self.likes = [leaf for _, leaf in found]
        low = [lowered(leaf) for leaf in self.likes]
        self.kinds = [kind(a) for a in low]  # of the leaves; and of the outputs for real leaves:
        self.outputs: list[str] = []
        self.last: tuple[list[Any], Array] | None = None
        self.reuses = False  # the memory of outputs that an earlier call returned
        self.arrays = [_parts(a) if kind(a) == "c" else a for a in low]
        self.names: list[str] = []
        for (name, _), k in zip(found, self.kinds, strict=True):
            name += " (real, imaginary)" * (k == "c")
            self.names.append(name + "'" * sum(n.rstrip("'") == name for n in self.names))
        own = len(list(leaves(self.args[-1]))) if names and not names[-1] else 0
        self.inputs = self.names[: len(self.names) - own]
        self.conjugate = conjugate or any(_is_of("jax", type(a)) for a in self.likes)
        self.unseen: list[str] = []  # arrays of an object that y depends on, without a gradient

    def forward(self, *arrays: Any) -> tuple[Array, Any]:
        given = [
            lifted(_whole(a) if k == "c" else a, like)
            for a, k, like in zip(arrays, self.kinds, self.likes, strict=True)
        ]
        result = self.functions[0](*rebuilt(self.args, iter(given)))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(
                f"forward returned {described(result)}, want a tuple (y, cache); an object that "
                "keeps its cache on itself goes to check_function(object, args)"
            )
        y, cache = result
        outputs = [leaf for _, leaf in leaves(y)]
        low = [np.asarray(o) if isinstance(o, float) else lowered(o) for o in outputs]
        if not self.outputs:
            with_graph = [not is_tensor(o) or o.requires_grad for o in outputs]
            kept = with_graph if any(with_graph) else [True] * len(low)  # others: detached
            self.outputs = [kind(a) if keep else "" for a, keep in zip(low, kept, strict=True)]
            self.conjugate |= any(_is_of("jax", type(o)) for o in outputs)
            if not any(self.outputs):
                raise TypeError(f"forward gives {described(y)} for y, want float arrays")
        parts = [_parts(a) if k == "c" else a for a, k in zip(low, self.outputs, strict=True) if k]
        turned = any(getattr(a, "ndim", 0) > 1 and not a.flags.c_contiguous for a in arrays)
        whole = parts[0]
        if is_nest(y):
            whole = self._joined(parts)
            self._compare_with_last(parts, whole, arrays)
        return whole, (y, [p.shape for p in parts], turned, cache)

    def backward(self, dy: Array, cache: Any) -> tuple[Any, ...]:
        y, shapes, turned, inner = cache
        dy = array_module(dy).asarray(dy)  # 0-d ones too
        upstream: list[Any] = []
        start, shape_of = 0, iter(shapes)
        for (_, like), k in zip(leaves(y), self.outputs, strict=True):
            piece: Any = None
            if k:
                piece, shape = dy, next(shape_of)
                if is_nest(y):  # a piece in the layout of the arguments: one axis has none
                    size = int(np.prod(shape))
                    piece = dy[start : start + size].reshape(shape)
                    piece = piece.copy(order="F") if turned and dy.flags.c_contiguous else piece
                    start += size
                piece = lifted(self._turned(_whole(piece)) if k == "c" else piece, like)
            upstream.append(piece)
        return self._in_order(self.functions[1](rebuilt(y, iter(upstream)), inner))

    def _joined(self, parts: Sequence[Any]) -> Array:
        narrowest = min((p.dtype for p in parts), key=lambda dtype: dtype.itemsize)
        return array_module(*parts).concatenate([p.reshape(-1).astype(narrowest) for p in parts])

    def _compare_with_last(self, parts: list[Any], whole: Array, arrays: Sequence[Any]) -> None:
        """Several outputs are copied into one, so only here the call before can be compared."""
        if self.last is not None:
            self.reuses |= not same(self._joined(self.last[0]), self.last[1])
        plain = [a for a in arrays if isinstance(a, np.ndarray)]
        views = any(np.may_share_memory(p, a) for p in parts for a in plain)
        self.last = None if views or whole.dtype.kind == "c" else (parts, whole)

    def _in_order(self, found: Any) -> tuple[Any, ...]:
        """The gradients of the float leaves, in order; TooManyGradients if one has no leaf."""
        numbers = [i if k else None for i, k in enumerate(self.kinds)]
        trees = rebuilt(self.args, iter(numbers))  # each leaf as its number
        floats = [t for t in trees if any(i is not None for _, i in leaves(t))]
        named: dict[str, Any] = {}
        for name, tree in zip(self.arguments, trees, strict=True):
            named |= {name: tree} if name else tree
        targets = [floats[0]] if len(floats) == 1 and is_nest(floats[0]) else []
        if isinstance(found, Mapping):
            targets = [named, *targets]
        else:
            found = found if isinstance(found, tuple | list) else (found,)
            targets = [*targets, floats, trees, [i for i in numbers if i is not None]]
        for target in targets:
            placed = _matched(target, found)
            if placed is not None:
                return tuple(self._low(placed.get(i), k) for i, k in enumerate(self.kinds) if k)
        names = [n for n, k in zip(self.names, self.kinds, strict=True) if k]
        parts = found.items() if isinstance(found, Mapping) else [("", g) for g in found]
        shapes = ", ".join(f"{n} {getattr(g, 'shape', type(g).__name__)}".strip() for n, g in parts)
        raise TooManyGradients(
            f"backward returned {len(found)} gradients for {len(names)} float arrays "
            f"({', '.join(names)}): return one for each, in order and nested as they are, None "
            f"where there is none, or a dict by name; theirs have the shapes {shapes}"
        )

    def _low(self, g: Any, k: str) -> Any:
        g = lowered(g)
        return _parts(self._turned(g).astype("complex128")) if k == "c" and g is not None else g

    def _turned(self, a: Any) -> Any:
        return a.conj() if self.conjugate else a


def flat_pair(function: Any, args: Sequence[Any]) -> Flat:
    """``Flat`` of what has its backward pass within; TypeError if that is not found."""
    if isinstance(function, type):
        if not (hasattr(function, "apply") and _is_of("torch", function)):
            raise TypeError(f"got {described(function)}, want an object of it, made by calling it")
        names = argument_names(function.forward, len(args) + 1)  # type: ignore[attr-defined]
        return _of_torch(function.apply, args, names[names[0] == "ctx" :][: len(args)])
    if hasattr(function, "named_parameters") and _is_of("torch", type(function)):
        module = copy.deepcopy(function).double()

        def call(*given: Any) -> Any:
            return sys.modules["torch"].func.functional_call(module, given[-1], given[:-1])

        parameters = {name: p.detach() for name, p in module.named_parameters()}
        return _of_torch(call, args, argument_names(module.forward, len(args)), parameters)
    if _has(function, "fwd", "bwd"):
        return _of_custom_vjp(function, args)
    if _has(function, "backward") and (callable(function) or _has(function, "forward")):
        if len(argument_names(function.backward, 0, required=True)) > 1:
            raise TypeError(
                f"the backward pass of {described(function)} takes more than dy: check "
                "check_backward(object.forward, object.backward, args), or a layer of tinynet by "
                "check_gradients(layer, x)"
            )
        return _of_object(function, args)
    if not callable(function):
        raise TypeError(f"got {described(function)}, want a function, or forward and backward")
    names = argument_names(function, len(args))
    flat = Flat((function, lambda dy, vjp: vjp(dy)), args, names)
    trial = iter(lifted(lowered(leaf), leaf) for leaf in flat.likes)
    result = function(*rebuilt(flat.args, trial))
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        return flat
    if any(map(is_tensor, flat.likes)):
        return _of_torch(function, args, names)
    raise TypeError(
        f"{getattr(function, '__name__', function)} returned {described(result)}, want a tuple: y, "
        "and a function that takes dy. A torch function is given tensors; two functions of NumPy "
        "arrays go to check_backward(forward, backward, args)"
    )


@dataclass(frozen=True)
class _Constant:
    """A float tensor that is not differentiated."""

    value: Any


def _of_torch(
    function: Callable[..., Any], args: Sequence[Any], names: list[str], parameters: Any = None
) -> Flat:
    """The gradients of autograd, for the tensors that require one, or else all float tensors.

    NumPy's arrays become tensors.
    """
    torch = sys.modules["torch"]
    some = any(is_tensor(a) and a.requires_grad for _, a in leaves(args))

    def fixed(a: Any) -> Any:
        a = torch.tensor(a) if isinstance(a, np.ndarray) else a
        constant = some and is_tensor(a) and a.is_floating_point() and not a.requires_grad
        return _Constant(a.detach().double()) if constant else a

    nested = (*rebuilt(tuple(args), iter([fixed(a) for _, a in leaves(args)])),)
    if parameters is not None:
        nested, names = (*nested, parameters), [*names, ""]
    draws: list[bool] = []  # whether the first pass drew something
    in_place: list[bool] = []  # whether it changes its input, and tells autograd so
    devices = {a.device.index for _, a in leaves(nested) if is_tensor(a) and a.is_cuda}

    def forward(*given: Any) -> tuple[Any, Any]:
        plain = [a.value if isinstance(a, _Constant) else a for _, a in leaves(given)]
        wanted = [a for _, a in leaves(given) if is_tensor(a)]
        wanted = [a.requires_grad_() for a in wanted if a.is_floating_point() or a.is_complex()]
        with torch.random.fork_rng(sorted(devices)):  # what is drawn inside is the same each time
            state = torch.manual_seed(TORCH_SEED).get_state()
            if draws[:1] == [True]:  # in the order of the memory
                plain = [a.contiguous() if is_tensor(a) else a for a in plain]
            if in_place:
                plain = [a.clone() if is_tensor(a) else a for a in plain]
            try:
                y = function(*rebuilt(given, iter(plain)))
            except RuntimeError as error:
                if "leaf Variable that requires grad" not in str(error) or in_place:
                    raise
                in_place.append(True)
                return forward(*given)
            draws.append(not torch.equal(state, torch.get_rng_state()))
        return y, (y, wanted)

    def backward(dy: Any, cache: Any) -> Any:
        y, wanted = cache
        pairs = zip(leaves(y), leaves(dy), strict=True)
        ends = [(o, d.to(o.dtype)) for (_, o), (_, d) in pairs if d is not None and o.requires_grad]
        if not ends:  # nothing of it is on autograd's graph
            return None
        outputs, upstream = zip(*ends, strict=True)
        found = torch.autograd.grad(outputs, wanted, upstream, retain_graph=True, allow_unused=True)
        taken = [a.untyped_storage().data_ptr() for a in (*wanted, *upstream)]
        return [  # autograd copies what shares memory before it adds to it
            g.clone() if g is not None and g.untyped_storage().data_ptr() in taken else g
            for g in found
        ]

    return Flat((forward, backward), nested, names)


def _of_custom_vjp(function: Any, args: Sequence[Any]) -> Flat:
    """fwd and bwd as jax.custom_vjp keeps them; y is compared with the function's without a vjp."""
    plain = tuple(getattr(function, "nondiff_argnums", ()))
    names = argument_names(function.fwd, len(args))

    def forward(*given: Any) -> tuple[Any, Any]:
        y, kept = function.fwd(*given)
        if callable(function):
            own = [lowered(leaf) for _, leaf in leaves(function(*given))]
            if not all(map(same, own, (lowered(leaf) for _, leaf in leaves(y)))):
                report = GradientReport(getattr(function, "__name__", "the function"))
                report.faults.append("fwd gives another y than the function itself")
                raise GradientError(report)
        return y, (tuple(given[i] for i in plain), kept)

    def backward(dy: Any, cache: Any) -> Any:
        found, wanted = function.bwd(*cache[0], cache[1], dy), len(args) - len(plain)
        if not isinstance(found, tuple | list) or len(found) != wanted:
            raise TypeError(f"bwd returned {described(found)}, want a tuple of {wanted} gradients")
        rest = iter(found)
        return [None if i in plain else next(rest) for i in range(len(args))]

    return Flat((forward, backward), args, names, conjugate=True)


def _of_object(thing: Any, args: Sequence[Any]) -> Flat:
    """y = _call(thing)(*args), dx = thing.backward(dy), with its state on itself."""
    names = argument_names(_call(thing), len(args))
    state = _Stateful(thing, names)
    flat = Flat((state.forward, state.backward), (*args, {}), (*names, ""))
    pairs = zip(flat.arrays, flat.kinds, strict=True)
    doubled = [converted(a, "float64") if k else a for a, k in pairs]
    found: list[dict[str, Array]] = []
    for _ in range(2):
        with suppress(Exception):  # the check tells of it
            y, cache = flat.forward(*doubled)
            found.append({})
            state.gradients = found[-1]
            dy = np.random.default_rng(OBJECT_SEED).standard_normal(y.shape)
            flat.backward(array_module(y).asarray(dy), cache)
    once, twice = found if len(found) == 2 else ({}, {})
    parameters: dict[str, Array] = {}
    unseen: dict[str, Array] = {}
    for name, a in sorted(state.held.items(), key=lambda item: item[0] not in once):
        chosen = parameters if name in once or name != _plain(name) else unseen
        if not any(a is other for other in [*parameters.values(), *unseen.values()]):
            chosen[name] = a
    state.accumulating = [
        n for n in once.keys() & parameters if same(twice[n], 2 * once[n]) and once[n].any()
    ]
    flat = Flat((state.forward, state.backward), (*args, parameters), (*names, ""))
    for name, a in unseen.items():
        with suppress(Exception):  # does y depend on it?
            moved = Flat((state.forward, state.backward), (*args, {name: a}), (*names, ""))
            if not same(moved.forward(*doubled, 0.9 * converted(a, "float64") + 0.05)[0], y):
                flat.unseen.append(name)
    return flat


class _Stateful:
    """An object as two functions; each dict of parameters has one copy of it for all passes.

    Backward runs forward first, because the state is that of the last forward pass, whichever it
    was. What the object keeps beyond that, it keeps for the passes of other inputs too.
    """

    def __init__(self, thing: Any, names: Sequence[str]) -> None:
        self.thing, self.names = thing, names
        objects = dict(_objects(thing))
        self.held = {
            f"{path}.{name}".lstrip("."): a
            for path, o in objects.items()
            for name, a in leaves(_attributes(o))
            if kind(a) == "f"
        }
        self.copies: dict[tuple[int, ...], Any] = {}
        self.accumulating: list[str] = []
        self.gradients: dict[str, Array] = {}  # of the last backward pass, by the names in held

    def forward(self, *given: Any) -> tuple[Any, Any]:
        *rest, parameters = given
        key = tuple(map(id, parameters.values()))
        if key not in self.copies:
            memo = {id(a): converted(a, "float64") for a in self.held.values()}
            memo |= {id(self.held[n]): a for n, a in parameters.items()}
            self.copies[key] = _copied(self.thing, memo), parameters  # whose ids stay taken
        thing, kept = self.copies[key][0], copy.deepcopy(rest)
        return _call(thing)(*rest), (thing, [*parameters], rest, kept)

    def backward(self, dy: Any, cache: Any) -> Any:
        thing, names, rest, kept = cache
        pairs = zip(leaves(rest), leaves(kept), strict=True)
        whole = all(np.array_equal(a, b) for (_, a), (_, b) in pairs if hasattr(a, "dtype"))
        _call(thing)(*(rest if whole else kept))
        for name in self.accumulating:
            _gradient(thing, name)[...] = 0
        found = thing.backward(dy)
        returned = dict(found) if isinstance(found, Mapping) else {}
        self.gradients.clear()
        for name in self.held:
            keys = [k for k in _forms(_plain(name)) if k in returned]
            g = returned.pop(keys[0]) if keys else _gradient(thing, name)
            if g is not None:
                self.gradients[name] = array_module(g).array(g)
        own = {n: g for n, g in self.gradients.items() if n in names}
        if found is None:
            found = {n: g for n in self.names if (g := _gradient(thing, n)) is not None}
            return {**own, **found}
        if isinstance(found, Mapping):
            return {**own, **returned}
        several = isinstance(found, tuple | list) and not (len(rest) == 1 and is_nest(rest[0]))
        first = list(found) if several else [found]
        return [*first, *[None] * (len(rest) - len(first)), own]


def _call(thing: Any) -> Any:
    return thing.forward if _has(thing, "forward") else thing


def _attributes(thing: Any) -> dict[str, Any]:
    slots = [n for c in type(thing).__mro__ for n in getattr(c, "__slots__", ())]
    return {
        n: getattr(thing, n) for n in [*slots, *getattr(thing, "__dict__", ())] if hasattr(thing, n)
    }


def _copied(thing: Any, memo: dict[int, Any]) -> Any:
    """A deep copy of this very object, though it hands what it lacks on to another."""
    plain = type(thing).__new__ is object.__new__ and not hasattr(type(thing), "__slots__")
    if hasattr(type(thing), "__deepcopy__") or not plain:
        return copy.deepcopy(thing, memo)
    memo[id(thing)] = new = object.__new__(type(thing))
    vars(new).update(copy.deepcopy(vars(thing), memo))
    return new


def _objects(
    thing: Any, path: str = "", seen: frozenset[int] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """(path, object) of an object and all that it holds."""
    yield path, thing
    for name, value in leaves(_attributes(thing)):
        opaque = isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType)
        if hasattr(value, "__dict__") and not opaque and id(value) not in seen | {id(thing)}:
            inner = f"{path}.{name}".lstrip(".")
            yield from _objects(value, inner, seen | {id(thing)})


def _gradient(thing: Any, name: str) -> Any:
    """The array in which an object keeps the gradient of its array ``name``; None if in none."""
    objects = dict(_objects(thing))
    path = max((p for p in objects if not p or name.startswith(f"{p}.")), key=len)
    name = name[len(path) + 1 if path else 0 :]
    held = dict(leaves(_attributes(objects[path])))
    forms = _forms(_plain(name))
    tries = [f"{c}.{n}" for c in GRADIENTS for n in forms] + forms[1:]
    tries += ["grad"] * (name in ("value", "data"))
    return next((held[n] for n in tries if kind(held.get(n))), None)


def _plain(name: str) -> str:
    """ "W" of "params.W"."""
    head, _, rest = name.rpartition(".")
    return rest if head.split(".")[-1] in PARAMETERS else name


def _forms(name: str) -> list[str]:
    """What a gradient is called: "W", "dW", "grad_W", "W_grad"."""
    return [name, *(form.format(name) for form in GRADIENT_NAMES)]


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, leaf) of nested lists, tuples and dicts: "params.w", "layers.0"."""
    if not is_nest(tree):
        yield name, tree
        return
    for key, branch in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        yield from leaves(branch, f"{name}.{key}" if name else str(key))


def rebuilt(tree: Any, values: Iterator[Any]) -> Any:
    """The same nest, of other leaves, taken in order."""
    if isinstance(tree, Mapping):
        return {key: rebuilt(branch, values) for key, branch in tree.items()}
    if is_nest(tree):
        branches = [rebuilt(branch, values) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return next(values)


def _matched(target: Any, found: Any) -> dict[int, Any] | None:
    """Leaf's number -> gradient, of a nest of numbers and one of gradients; None if they differ."""
    if found is None or str(getattr(found, "dtype", "")).startswith("[('float0'"):  # JAX's None
        return {}
    if not is_nest(target):
        return None if target is None or is_nest(found) else {target: found}
    if not is_nest(found) or isinstance(target, Mapping) != isinstance(found, Mapping):
        return None
    placed: dict[int, Any] = {}
    for key, g in found.items() if isinstance(found, Mapping) else enumerate(found):
        keys = target if isinstance(target, Mapping) else range(len(target))
        place = next((k for k in keys if key == k or key in _forms(str(k))), None)
        inner = _matched(None if place is None else target[place], g)
        if inner is None:
            return None
        placed |= inner
    return placed


def is_nest(a: Any) -> bool:
    return not isinstance(a, np.ndarray) and isinstance(a, tuple | list | Mapping)


def is_tensor(a: Any) -> bool:
    """True for a tensor of torch."""
    return hasattr(a, "detach") and hasattr(a, "requires_grad")


def kind(a: Any) -> str:
    """'f' or 'c' for an array of real or complex numbers, '' for all else."""
    k = getattr(getattr(a, "dtype", None), "kind", "")
    return k if k in ("f", "c") else ""


def lowered(a: Any) -> Any:
    """An array of NumPy or CuPy, of whatever else is an array; anything else as it is."""
    if is_tensor(a):
        a = a.detach().cpu().resolve_conj().resolve_neg()
        return (a.float() if str(a.dtype) == "torch.bfloat16" else a).numpy()
    if isinstance(a, np.ndarray) or library_of(a) == "cupy" or isinstance(a, type):
        return a
    return np.asarray(a) if hasattr(a, "__array__") else a


def lifted(a: Any, like: Any) -> Any:
    """The array in the library, and on the device, of ``like``; in the same memory if it can be."""
    if is_tensor(like):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of read-only arrays, which the check compares
            a = np.asarray(a)
            a = a.copy() if any(s < 0 for s in a.strides) else a  # torch has no negative strides
            return sys.modules["torch"].from_numpy(a).to(like.device)
    if isinstance(a, type(like)) or not hasattr(like, "__array_namespace__"):
        return a
    return like.__array_namespace__().asarray(a)


def argument_names(
    function: Callable[..., Any], count: int, *, required: bool = False
) -> list[str]:
    """The names of the first ``count`` positional parameters, numbered where there are none.

    required   instead, all those without a default
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if required:
        return [p.name for p in parameters if p.name in names and p.default is p.empty]
    return names[:count] + [f"argument {i}" for i in range(len(names), count)]


def _has(thing: Any, *names: str) -> bool:
    return all(callable(getattr(thing, name, None)) for name in names)


def _parts(a: Any) -> Array:
    """(..., 2) the real and imaginary parts of a complex array."""
    return array_module(a).stack([a.real, a.imag], axis=-1)


def _whole(a: Any) -> Array:
    """The complex array of such parts, in the same memory if it can be."""
    if kind(a) == "c":
        raise TypeError("a complex argument takes no complex step")
    if a.dtype == "float64" and a.flags.c_contiguous:
        return a.view("complex128")[..., 0]
    return a[..., 0] + 1j * a[..., 1]


def _is_of(library: str, kind_of: type) -> bool:
    return any(c.__module__.startswith(library) for c in kind_of.__mro__)
