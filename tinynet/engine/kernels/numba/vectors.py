"""Vectors of float32 for compiled kernels: as many lanes as a register of this processor has.

A compiler turns simple loops into vector instructions by itself, but it does not keep a block of
sums in registers through a loop, and it gives up where it cannot prove that dozens of streams do
not overlap. Kernels that need that are written with these few functions. ``+``, ``-`` and ``*``
work on vectors as on numbers, so that one formula serves NumPy's arrays and registers:

    v = load(x, i)              lanes x.flat[i], x.flat[i + 1], …
    v = load_some(x, i, n)      the first n lanes, the others 0
    store(y, i, v)              and store_some(y, i, v, n)
    v = broadcast(number)       the same number in every lane
    c = multiply_add(a, b, c)   a b + c in one instruction

Arrays are float32, of any shape, in C order; indices count numbers from the start of the array and
are not checked. Measured, one core of an AVX2 machine (95 GFLOP/s in large products of OpenBLAS):
products of blocks with 6 × 2 vectors of sums in registers, see ``products.py``.

The last functions load and store three, four or six vectors that lie ``step`` numbers apart, the
columns and rows of small tiles.
"""

from __future__ import annotations

import operator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from tinynet.engine.kernels.numba.compile import compiled

FLOAT, BYTE, INT = ir.FloatType(), ir.IntType(8), ir.IntType(32)
CONTRACT = ("contract",)  # a multiplication and an addition may become one instruction


def _lanes() -> int:
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx") else 4


LANES = _lanes()
VECTOR = ir.VectorType(FLOAT, LANES)


class VectorType(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(f"Vector{LANES}")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _pointer(context: Any, builder: Any, kind: Any, place: Any, to: Any) -> Any:
    """The address of array.flat[index], where place is (array, index), as a pointer to ``to``."""
    array, index = place
    data = context.make_array(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(INT, 0)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, zero)
    mask = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), mask)


def _first_lanes(builder: Any, count: Any) -> Any:
    """A mask of the first ``count`` lanes."""
    numbers = ir.VectorType(INT, LANES)
    lanes = ir.Constant(numbers, list(range(LANES)))
    zero = ir.Constant(INT, 0)
    first = builder.insert_element(
        ir.Constant(numbers, ir.Undefined), builder.trunc(count, INT), zero
    )
    all_counts = builder.shuffle_vector(
        first, ir.Constant(numbers, ir.Undefined), ir.Constant(numbers, [0] * LANES)
    )
    return builder.icmp_signed("<", lanes, all_counts)


@intrinsic
def load(typing: Any, x: Any, i: Any) -> Any:
    """The vector at x.flat[i]."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _pointer(context, builder, signature.args[0], arguments, VECTOR)
        return builder.load(address, align=4)

    return vector(x, types.intp), code


@intrinsic
def store(typing: Any, y: Any, i: Any, v: Any) -> Any:
    """Write v to y.flat[i] and after."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        address = _pointer(context, builder, signature.args[0], (array, index), VECTOR)
        builder.store(value, address, align=4)
        return context.get_dummy_value()

    return types.void(y, types.intp, vector), code


def _call(builder: Any, name: str, returns: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(returns, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


@intrinsic
def load_some(typing: Any, x: Any, i: Any, count: Any) -> Any:
    """The first ``count`` lanes at x.flat[i], 0 in the others; reads nothing beyond them."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, n = arguments
        address = _pointer(context, builder, signature.args[0], (array, index), VECTOR)
        return _call(
            builder,
            f"llvm.masked.load.v{LANES}f32.p0",
            VECTOR,
            address,
            ir.Constant(INT, 4),
            _first_lanes(builder, n),
            ir.Constant(VECTOR, None),
        )

    return vector(x, types.intp, types.intp), code


@intrinsic
def store_some(typing: Any, y: Any, i: Any, v: Any, count: Any) -> Any:
    """Write the first ``count`` lanes of v to y.flat[i] and after."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value, n = arguments
        address = _pointer(context, builder, signature.args[0], (array, index), VECTOR)
        _call(
            builder,
            f"llvm.masked.store.v{LANES}f32.p0",
            ir.VoidType(),
            value,
            address,
            ir.Constant(INT, 4),
            _first_lanes(builder, n),
        )
        return context.get_dummy_value()

    return types.void(y, types.intp, vector, types.intp), code


@intrinsic
def load_bytes(typing: Any, x: Any, i: Any) -> Any:
    """The uint8 numbers at x.flat[i], as float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(BYTE, LANES)
        address = _pointer(context, builder, signature.args[0], arguments, kind)
        return builder.uitofp(builder.load(address, align=1), VECTOR)

    return vector(x, types.intp), code


@intrinsic
def store_bytes(typing: Any, y: Any, i: Any, v: Any) -> Any:
    """Write v, whole numbers from 0 to 255, to y.flat[i] and after, as uint8."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        kind = ir.VectorType(BYTE, LANES)
        address = _pointer(context, builder, signature.args[0], (array, index), kind)
        builder.store(builder.fptoui(value, kind), address, align=1)
        return context.get_dummy_value()

    return types.void(y, types.intp, vector), code


@intrinsic
def broadcast(typing: Any, x: Any) -> Any:
    """The number x in every lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return vector(types.float32), code


@intrinsic
def load_broadcast(typing: Any, x: Any, i: Any) -> Any:
    """The number x.flat[i] in every lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _pointer(context, builder, signature.args[0], arguments, FLOAT)
        return _splat(builder, builder.load(address, align=4))

    return vector(x, types.intp), code


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The vector a b + c, rounded once."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.fma.v{LANES}f32", VECTOR, *arguments)

    return vector(vector, vector, vector), code


@intrinsic
def where_greater(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """The lanes of x where a > b, else of y; with NaN in a or b, of y."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, x, y = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), x, y)

    return vector(vector, vector, vector, vector), code


@intrinsic
def where_equal(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """The lanes of x where a = b, else of y."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, x, y = arguments
        return builder.select(builder.fcmp_ordered("==", a, b), x, y)

    return vector(vector, vector, vector, vector), code


def _arithmetic(symbol: Any, instruction: str) -> None:
    """Have ``symbol`` work on two vectors, or on a number and a vector."""

    @intrinsic
    def function(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments, flags=CONTRACT)

        return vector(vector, vector), code

    @overload(symbol)
    def choose(a, b):  # type: ignore[no-untyped-def]  # Numba compares it with the lambda's
        if a is vector and b is vector:
            return lambda a, b: function(a, b)
        if b is vector and isinstance(a, types.Number):
            return lambda a, b: function(broadcast(np.float32(a)), b)
        return None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


@compiled
def load_three(x, i, step):  # type: ignore[no-untyped-def]
    return load(x, i), load(x, i + step), load(x, i + 2 * step)


@compiled
def load_some_of_three(x, i, step, lanes):  # type: ignore[no-untyped-def]
    return (
        load_some(x, i, lanes),
        load_some(x, i + step, lanes),
        load_some(x, i + 2 * step, lanes),
    )


@compiled
def load_four(x, i, step):  # type: ignore[no-untyped-def]
    return load(x, i), load(x, i + step), load(x, i + 2 * step), load(x, i + 3 * step)


@compiled
def load_six(x, i, step):  # type: ignore[no-untyped-def]
    return (
        load(x, i),
        load(x, i + step),
        load(x, i + 2 * step),
        load(x, i + 3 * step),
        load(x, i + 4 * step),
        load(x, i + 5 * step),
    )


@compiled
def store_three(y, i, step, v):  # type: ignore[no-untyped-def]
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])


@compiled
def store_some_of_three(y, i, step, v, lanes):  # type: ignore[no-untyped-def]
    store_some(y, i, v[0], lanes)
    store_some(y, i + step, v[1], lanes)
    store_some(y, i + 2 * step, v[2], lanes)


@compiled
def store_four(y, i, step, v):  # type: ignore[no-untyped-def]
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])
    store(y, i + 3 * step, v[3])


@compiled
def store_six(y, i, step, v):  # type: ignore[no-untyped-def]
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])
    store(y, i + 3 * step, v[3])
    store(y, i + 4 * step, v[4])
    store(y, i + 5 * step, v[5])


@compiled
def add_six(y, i, step, v):  # type: ignore[no-untyped-def]
    a = load_six(y, i, step)
    store_six(
        y,
        i,
        step,
        (v[0] + a[0], v[1] + a[1], v[2] + a[2], v[3] + a[3], v[4] + a[4], v[5] + a[5]),
    )
