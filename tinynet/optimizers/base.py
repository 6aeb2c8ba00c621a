"""Base of the optimisers: which parameters change, weight decay, memory between steps.

A rule is a function marked ``@update_rule``, the recurrence as it is written in the report or a
paper: it changes its first arrays in place, w and what it remembers of earlier steps, and nothing
else. ``g`` is the gradient of the batch's mean loss. The classes keep that memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, ParamSpec, TypedDict

import numpy as np

from tinynet.backend import (
    Array,
    Checked,
    Swappable,
    array_module,
    check_array,
    check_instance,
    check_number,
    described,
    library_of,
    swappable,
    to_device,
)
from tinynet.layer import Parameter
from tinynet.optimizers.clipping import clip_by_norm, clip_by_value
from tinynet.regularizers import Selection, any_parameter

__all__ = ["Optimizer", "update_rule"]

P = ParamSpec("P")
ClipBy = Literal["value", "norm", "global_norm"]
Rates = Mapping[str, float] | Callable[[str], float]

UPDATE_RULES: list[Swappable[..., None]] = []


def update_rule(function: Callable[P, None]) -> Swappable[P, None]:
    """Mark a weight update: a function of arrays of one shape that acts on each number alone.

    It may then be run on parts of the arrays, one after the other or side by side.
    """
    marked = swappable(function, check_update)
    UPDATE_RULES.append(marked)
    return marked


def check_update(name: str, w: Array, *arguments: Any, **named: Any) -> None:
    """Raise ValueError, naming the rule, unless all arrays have w's shape."""
    for a in arguments:
        is_array = isinstance(a, np.ndarray) or library_of(a) == "cupy"
        if is_array:
            check_array(name, "an array for w", a)
        if is_array and a.shape != w.shape:
            raise ValueError(
                f"{name}: w is {w.shape}, and an array for it {a.shape}, want the same"
            )


class Shared(TypedDict, total=False):
    """Settings that each optimiser hands on to ``Optimizer``."""

    decays: Selection
    rates: Rates | None
    clip: float | None
    clip_by: ClipBy


class Settings(Shared, total=False):
    """The same, and weight decay."""

    weight_decay: float
    decoupled: bool


class Optimizer(Checked):
    """Base of the optimisers: which parameters change, at which rate, weight decay, memory.

    learning_rate   η; may be set at any time
    weight_decay    λ: pulls weights towards 0.  Report §2.4.2
    decoupled       False: λ w is added to the gradient, an L2 penalty (λ/2) Σ w².
                    True: w shrinks by η λ w by itself, past the rule's scaling.
                    Source: Loshchilov & Hutter 2019, "Decoupled weight decay regularization".
    decays          which parameters decay, by dotted name; all by default, as in PyTorch.
                    ``tinynet.regularizers.is_weight`` leaves out biases, gammas and betas
    rates           factors of η for some layers, by dotted name with all inside them:
                    ``{"base": 0.1}``, the longest name that fits; or a function of the
                    parameter's name
    clip, clip_by   c, which gradients are held to before decay and the rule, in place: "value"
                    each number, "norm" each parameter's, "global_norm" the norm of all trainable
                    parameters' together; see ``clip_by_value`` and ``clip_by_norm``
    Raises ValueError for settings out of range and, at the first step, for ``rates`` or ``decays``
    that fit no parameter.
    A subclass gives ``rule``, ``slots`` and ``numbers``, or writes ``update``.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        decays: Selection = any_parameter,
        rates: Rates | None = None,
        clip: float | None = None,
        clip_by: ClipBy = "global_norm",
    ) -> None:
        check_number("learning_rate", learning_rate, 0)
        check_number("weight_decay", weight_decay, 0)
        if isinstance(rates, Mapping):
            for layer, factor in rates.items():
                check_instance("a layer in rates", layer, str, "a name, such as 'base'")
                check_number(f"rates[{layer!r}]", factor, 0)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.decoupled = decoupled
        self.decays = decays
        self.rates: Rates = {} if rates is None else rates
        self.clip = None if clip is None else above_zero("clip", clip)
        self.clip_by = clip_by
        self.steps = 0
        self._updates: dict[str, int] = {}  # dotted name -> steps in which it was trainable
        self._memory: dict[str, Array] = {}  # "slot.dotted name" -> array
        self._known: set[str] | None = None  # names of all parameters, from the first step on

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays that the rule keeps for each parameter."""
        return ()

    @property
    def rule(self) -> Swappable[..., None]:
        """The update function of w, the arrays named in ``slots``, g, and ``numbers``."""
        raise NotImplementedError(
            f"{type(self).__name__} has no rule: write rule and numbers, or update, in the subclass"
        )

    def numbers(self, name: str) -> tuple[Any, ...]:
        """Return the rule's arguments after the gradient, for one parameter in this step."""
        raise NotImplementedError(
            f"{type(self).__name__} has no numbers: write them in the subclass"
        )

    def update(self, name: str, w: Array, g: Array) -> None:
        """Change w in place by the rule, given its gradient g, of the same shape.

        What is remembered of a float16 parameter is float32: g² would round to 0.
        """
        exact = w.astype(np.promote_types(w.dtype, np.float32), copy=False)
        remembered = [self.remembered(slot, name, exact) for slot in self.slots]
        self.rule(exact, *remembered, g.astype(exact.dtype, copy=False), *self.numbers(name))
        if exact is not w:
            w[...] = exact

    def step(self, parameters: Mapping[str, Parameter]) -> None:
        """Change every trainable parameter by its gradient, once.

        parameters   dotted name -> Parameter, ``model.parameters()``, the same at each step
        A parameter that is not trainable keeps its value and its memory.
        Raises ValueError, before anything is changed, if these are other parameters than before.
        """
        if not isinstance(parameters, Mapping):
            raise TypeError(
                f"parameters are {described(parameters)}, want a dict of Parameters by name: "
                "model.parameters()"
            )
        self._check_same(parameters)
        trainable = {name: p for name, p in parameters.items() if p.trainable}
        self.clip_gradients(trainable)
        self.count(trainable)
        for name, parameter in trainable.items():
            self._step_one(name, parameter.value, parameter.grad)

    def _step_one(self, name: str, w: Array, g: Array) -> None:
        decay, shrink = self.decay(name)
        if shrink != 1:
            w *= shrink
        if decay:
            g = g + decay * w
        self.update(name, w, g)

    def clip_gradients(self, trainable: Mapping[str, Parameter]) -> None:
        """Hold the gradients to ``clip``, in place; ``step`` does so. Nothing waits for a GPU."""
        gradients = [p.grad for p in trainable.values()]
        if self.clip is None:
            return
        if self.clip_by == "value":
            clip_by_value(gradients, self.clip)
        elif self.clip_by == "norm":
            for g in gradients:
                clip_by_norm([g], self.clip)
        else:
            clip_by_norm(gradients, self.clip)

    def rate(self, name: str) -> float:
        """Learning rate of one parameter: η times its factor in ``rates``."""
        if callable(self.rates):
            factor = check_number(f"rates({name!r})", self.rates(name), 0)
        else:
            fitting = [layer for layer in self.rates if _is_inside(name, layer)]
            factor = self.rates[max(fitting, key=len)] if fitting else 1.0
        return float(self.learning_rate) * factor

    def decay(self, name: str) -> tuple[float, float]:
        """(λ of g + λ w, what w is multiplied by) for the step in hand: (0, 1) for no decay."""
        if not (self.weight_decay and self.decays(name)):
            return 0.0, 1.0
        if self.decoupled:
            return 0.0, 1 - self.rate(name) * self.weight_decay
        return self.weight_decay, 1.0

    def count(self, names: Iterable[str], steps: int = 1) -> None:
        """Add ``steps`` to the count of steps, and to that of each of these parameters."""
        self.steps += steps
        for name in names:
            self._updates[name] = self._updates.get(name, 0) + steps

    def zero_grad(self, parameters: Mapping[str, Parameter]) -> None:
        """Set every gradient to zero."""
        for parameter in parameters.values():
            parameter.grad[...] = 0

    def state(self) -> dict[str, Array]:
        """Return all that the next step depends on besides the settings: named arrays, no copies.

        "step" is the number of steps so far and "updates.dotted name" that of one parameter,
        each a 0-d int64 array; "slot.dotted name" is an array that the rule keeps.
        """
        counts = {f"updates.{name}": n for name, n in self._updates.items()}
        counts["step"] = self.steps
        return {key: np.array(n, np.int64) for key, n in counts.items()} | self._memory

    def memory(self) -> dict[str, Array]:
        """Return "slot.dotted name" -> array that the rule keeps (not copies)."""
        return dict(self._memory)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from a ``state()``, which is copied.

        Raises ValueError, before anything is changed, for the state of another kind of optimiser;
        that of another model is noticed by the next ``step``.
        """
        if "step" not in state:
            raise ValueError(
                "this is not an optimiser's state, it has no 'step': want what state() returned"
            )
        parts = {key: key.partition(".")[::2] for key in state if key != "step"}
        updates = {name: key for key, (slot, name) in parts.items() if slot == "updates"}
        memory = [key for key, (slot, _) in parts.items() if slot != "updates"]
        if set(memory) != {f"{slot}.{name}" for slot in self.slots for name in updates}:
            raise ValueError(
                f"the state has {_slots_of(memory)}, {type(self).__name__} with its present "
                f"settings keeps {_slots_of(self.slots)} for each parameter: load it into an "
                "optimiser of the kind that it was saved from"
            )
        for key in memory:
            if state[key].dtype.kind not in "fc":
                raise ValueError(f"the state's {key} holds {state[key].dtype}, want floats")
        counts = {key: _count(key, state[key]) for key in ("step", *updates.values())}
        self.steps = counts["step"]
        self._updates = {name: counts[key] for name, key in updates.items()}
        self._memory = {key: state[key].copy() for key in memory}
        self._known = None

    def remembered(self, slot: str, name: str, like: Array) -> Array:
        """Return the rule's array ``slot`` for a parameter: like ``like``, 0 at first.

        Changed in place by the rule, so it is the same array from step to step.
        """
        key = f"{slot}.{name}"
        kept = self._memory.get(key)
        if kept is None:
            kept = array_module(like).zeros_like(like)
        elif library_of(kept) != library_of(like) or kept.dtype != like.dtype:
            kept = to_device(kept, library_of(like)).astype(like.dtype)
        self._memory[key] = kept
        return kept

    def _check_same(self, parameters: Mapping[str, Parameter]) -> None:
        """Raise ValueError unless names and shapes are those of the steps before."""
        names = set(parameters)
        before = self._updates.keys() if self._known is None else self._known
        faults = [f"{name} is missing" for name in before if name not in names]
        if self._known is not None:
            faults += [f"{name} is new" for name in parameters if name not in self._known]
        for key, kept in self._memory.items():
            name = key.partition(".")[2]
            if name in names and parameters[name].shape != kept.shape:
                faults.append(f"{name} is {parameters[name].shape}, was {kept.shape}")
        if faults:
            shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if faults[4:] else "")
            raise ValueError(
                f"{type(self).__name__} was given other parameters than in the steps before: "
                f"{shown}. Make a new optimiser for another model; to hold parameters fixed, "
                "set their trainable to False"
            )
        if self._known is None:
            self.check_choices(parameters)
        self._known = names

    def check_choices(self, names: Iterable[str]) -> None:
        """Raise ValueError if ``rates`` or ``decays`` fit none of these parameters."""
        names = list(names)
        for name in names:
            self.rate(name)  # a function's answers are checked before the first update
        shown = ", ".join(names[:4]) + (", ..." if names[4:] else "")
        for layer in () if callable(self.rates) else self.rates:
            if not any(_is_inside(name, layer) for name in names):
                raise ValueError(
                    f"rates has {layer!r}, and no parameter is inside a layer of that name: want "
                    f"the beginning of one of {shown}, up to a dot"
                )
        if self.weight_decay and names and not any(map(self.decays, names)):
            raise ValueError(
                f"weight_decay is {self.weight_decay}, and decays chooses none of {shown}: choose "
                "some, or set weight_decay to 0"
            )


def above_zero(name: str, value: float) -> float:
    """Return ``value``, a finite number above 0."""
    if not check_number(name, value) > 0:
        raise ValueError(f"{name} is {value}, want a number above 0")
    return value


def new_weight(old_name: str, old: float, new_name: str, new: float | None) -> float:
    """Return the weight, above 0, of the new term, given either weight of a moving average."""
    if new is None:
        if not check_number(old_name, old) < 1 or old < 0:
            raise ValueError(f"{old_name} is {old}, want 0 to 1, and below 1")
        return 1 - old
    if not check_number(new_name, new) > 0 or new > 1:
        raise ValueError(f"{new_name} is {new}, want above 0, up to 1")
    return new


def _count(key: str, x: Array) -> int:
    if x.shape != () or x.dtype.kind not in "iu" or not 0 <= (n := int(x)) < 2**62:
        raise ValueError(f"the state's {key} is {x.dtype} {x.shape}, want a number of steps from 0")
    return n


def _is_inside(name: str, layer: str) -> bool:
    return f"{name}.".startswith(f"{layer}.")


def _slots_of(keys: Iterable[str]) -> str:
    return ", ".join(sorted({key.partition(".")[0] for key in keys})) or "nothing"
