"""Which check fits what is given: for the pytest fixture and the command line.

Nothing is imported before it is called: pytest loads this when it starts.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynet.gradient_check.report import GradientReport

WANTED = "forward, backward, arguments...; function, arguments...; layer, x; or loss, z, y"


def check_any(subject: Any, *args: Any, seed: int | None = None, **settings: Any) -> GradientReport:
    """The check that fits what is given.

    subject, args   forward, backward, arguments...; layer, x; layer, x, mode; loss, z, y; or what
                    ``check_function`` takes, and arguments. An object is a loss if its
                    ``backward`` begins with the cache, a layer if that takes dy and a cache
    seed            of the upstream gradient; None: the fixed one
    settings        keywords of the check, such as ``tolerance``
    """
    from tinynet.gradient_check.check import (
        UPSTREAM_SEED,
        check_backward,
        check_function,
        check_gradients,
        check_loss,
    )

    pair, layer = bool(args) and callable(subject) and callable(args[0]), False
    if hasattr(subject, "backward") and not isinstance(subject, type):
        parameters = inspect.signature(subject.backward).parameters.values()
        pair, names = False, [p.name for p in parameters if p.default is p.empty]
        if names[:1] == ["cache"]:
            return check_loss(subject, *args, **settings)
        layer = len(names) > 1
    elif not callable(subject) or not args:
        given = ", ".join(type(a).__name__ for a in (subject, *args[:1]))
        raise TypeError(f"the arguments begin with {given}, want {WANTED}")
    if seed is not None:
        from numpy.random import default_rng

        # not (seed) alone: what is checked was often drawn from it, and dy must be something else
        settings.setdefault("rng", default_rng((UPSTREAM_SEED, seed)))
    if layer:
        return check_gradients(subject, *args, **settings)
    if pair:
        return check_backward(subject, args[0], args[1:], **settings)
    return check_function(subject, args, **settings)


def whole_number(text: str) -> int:
    """A number for --seed; raises ValueError for one below 0."""
    if int(text) < 0:
        raise ValueError
    return int(text)
