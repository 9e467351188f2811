"""`@composite`: a function of ours that a target may lower as one operator.

NEP 18 lets an argument's class take over a call of NumPy's functions
(`__array_function__`). `@composite` does the same for ours: where an argument's
class defines `__composite__`, that method is asked instead of the body.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def composite(function: Callable[P, R]) -> Callable[P, R]:
    """Let the class of an argument decide how `function` is carried out.

    Parameters
    ----------
    function : callable
        Plain NumPy code. Called with arrays it runs as it is.

    Returns
    -------
    callable
        The same function. Where an argument has a method
        `__composite__(composite, args, kwargs)`, the method's result is returned;
        `composite.__wrapped__` is the plain body it may fall back on.

    References
    ----------
    NEP 18, "A dispatch mechanism for NumPy's high level array functions".
    """

    @functools.wraps(function)
    def dispatching(*args: P.args, **kwargs: P.kwargs) -> R:
        for argument in (*args, *kwargs.values()):
            override = getattr(type(argument), "__composite__", None)
            if override is not None:
                return cast("R", override(argument, dispatching, args, kwargs))
        return function(*args, **kwargs)

    return dispatching
