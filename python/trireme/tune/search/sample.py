"""Search spaces: where the values of hyper-parameters come from.

A `Domain` is a set of values with a way to draw from it. Domains are immutable and hold no random state: whoever
draws brings a generator, so that one seed gives one sequence of configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

RandomState = "int | np.random.Generator | np.random.RandomState | None"


def generator(random_state: Any = None) -> np.random.Generator:
    """A NumPy generator from a seed, a generator, a legacy RandomState, or (None) NumPy's global state.

    With None the seed is drawn from the global state, so that ``np.random.seed`` makes a run reproducible.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.Generator(random_state._bit_generator)
    if random_state is None:
        return np.random.default_rng(np.random.randint(2**31))
    return np.random.default_rng(random_state)


class Domain:
    """A set of values to draw from."""

    def sample(self, config: Mapping[str, Any] | None = None, size: int = 1, random_state: Any = None) -> Any:
        """Draws values.

        Parameters
        ----------
        config
            The values known so far; only `Function` looks at it.
        size
            How many.
        random_state
            Seed, generator, or None for NumPy's global state.

        Returns
        -------
        A value when `size` is 1, else a list of them.
        """
        rng = generator(random_state)
        values = [self.draw(rng, config) for _ in range(size)]
        return values[0] if size == 1 else values

    def draw(self, rng: np.random.Generator, config: Any) -> Any:
        """One value."""
        raise NotImplementedError

    def is_valid(self, value: Any) -> bool:
        """Whether the set holds `value`."""
        raise NotImplementedError

    def is_function(self) -> bool:
        """True for `sample_from`."""
        return False

    @property
    def domain_str(self) -> str:
        """The set in a few characters, for tables."""
        return repr(self)


class Float(Domain):
    """Real numbers from `lower` to below `upper`.

    Parameters
    ----------
    lower, upper
        Bounds; for a normal distribution not used.
    scale
        ``"uniform"``, ``"log"`` (equal chance for each order of magnitude) or ``"normal"``.
    q
        Values are rounded to multiples of it (the bounds included); None: not rounded.
    mean, sd
        Of the normal distribution.
    """

    def __init__(
        self,
        lower: float | None,
        upper: float | None,
        scale: str = "uniform",
        q: float | None = None,
        mean: float = 0.0,
        sd: float = 1.0,
    ) -> None:
        self.lower = -math.inf if lower is None else float(lower)
        self.upper = math.inf if upper is None else float(upper)
        self.scale, self.q, self.mean, self.sd = scale, q, mean, sd
        if scale != "normal" and not self.lower < self.upper:
            raise ValueError(f"a range from {lower} to {upper} is empty; the lower bound comes first")
        if scale == "log" and self.lower <= 0:
            raise ValueError(f"a logarithmic range starts above 0, but the lower bound is {lower}")
        _check_step(q, self.lower, self.upper, scale)

    def draw(self, rng: np.random.Generator, config: Any) -> float:
        if self.scale == "normal":
            value = rng.normal(self.mean, self.sd)
        elif self.scale == "log":
            value = math.exp(rng.uniform(math.log(self.lower), math.log(self.upper)))
        else:
            value = rng.uniform(self.lower, self.upper)
        if self.q is not None:
            value = round(value / self.q) * self.q
        return float(min(max(value, self.lower), self.upper))

    def is_valid(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.lower <= value <= self.upper

    def uniform(self) -> Float:
        """The same range, evenly."""
        return Float(self.lower, self.upper, "uniform", self.q)

    def loguniform(self) -> Float:
        """The same range, evenly over the orders of magnitude."""
        return Float(self.lower, self.upper, "log", self.q)

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> Float:
        """Normally distributed within the same bounds."""
        return Float(self.lower, self.upper, "normal", self.q, mean, sd)

    def quantized(self, q: float) -> Float:
        """The same, rounded to multiples of `q`."""
        return Float(self.lower, self.upper, self.scale, q, self.mean, self.sd)

    def __repr__(self) -> str:
        if self.scale == "normal":
            return f"(normal mean={self.mean:g}, sd={self.sd:g})"
        return f"({self.lower:g}, {self.upper:g}{', log' if self.scale == 'log' else ''})"


class Integer(Domain):
    """Whole numbers from `lower` to `upper`.

    Parameters
    ----------
    lower, upper
        Bounds; `upper` is excluded unless values are quantized.
    scale
        ``"uniform"`` or ``"log"``.
    q
        Values are multiples of it, `upper` included; 1 only includes `upper`; None: neither.
    """

    def __init__(self, lower: int, upper: int, scale: str = "uniform", q: int | None = None) -> None:
        self.lower, self.upper, self.scale, self.q = int(lower), int(upper), scale, q
        if not self.lower < self.upper:
            raise ValueError(f"a range from {lower} to {upper} is empty; the lower bound comes first")
        if scale == "log" and self.lower <= 0:
            raise ValueError(f"a logarithmic range starts above 0, but the lower bound is {lower}")
        _check_step(q, self.lower, self.upper, scale)

    def draw(self, rng: np.random.Generator, config: Any) -> int:
        last = self.upper - 1 if self.q is None else self.upper
        if self.scale == "log":
            value = int(math.exp(rng.uniform(math.log(self.lower), math.log(last + 1))))
        else:
            value = int(rng.integers(self.lower, last, endpoint=True))
        if self.q is not None and self.q > 1:
            value = int(round(value / self.q) * self.q)
        return min(max(value, self.lower), last)

    def is_valid(self, value: Any) -> bool:
        return isinstance(value, (int, np.integer)) and self.lower <= value <= self.upper

    def uniform(self) -> Integer:
        """The same range, evenly."""
        return Integer(self.lower, self.upper, "uniform", self.q)

    def loguniform(self) -> Integer:
        """The same range, evenly over the orders of magnitude."""
        return Integer(self.lower, self.upper, "log", self.q)

    def quantized(self, q: int) -> Integer:
        """Multiples of `q`, the upper bound included."""
        return Integer(self.lower, self.upper, self.scale, q)

    def __repr__(self) -> str:
        return f"({self.lower}, {self.upper}{', log' if self.scale == 'log' else ''})"


class Categorical(Domain):
    """One of a list of values of any kind."""

    def __init__(self, categories: Sequence[Any]) -> None:
        self.categories = list(categories)
        if not self.categories:
            raise ValueError("choice() needs at least one value to choose from")

    def draw(self, rng: np.random.Generator, config: Any) -> Any:
        return self.categories[int(rng.integers(len(self.categories)))]

    def uniform(self) -> Categorical:
        """Itself: all values are equally likely."""
        return self

    def grid(self) -> dict[str, list[Any]]:
        """The same values as a grid."""
        return {"grid_search": list(self.categories)}

    def is_valid(self, value: Any) -> bool:
        return value in self.categories

    def __len__(self) -> int:
        return len(self.categories)

    def __repr__(self) -> str:
        return f"{self.categories}"


class Function(Domain):
    """A value computed from the other ones by `func`, called with the configuration (see `sample_from`)."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        code = getattr(func, "__code__", None)
        required = code.co_argcount - len(getattr(func, "__defaults__", None) or ()) if code else 1
        if hasattr(func, "__self__"):
            required -= 1
        self._takes_config = required > 0

    def draw(self, rng: np.random.Generator, config: Any) -> Any:
        return self.func(config) if self._takes_config else self.func()

    def is_function(self) -> bool:
        return True

    def is_valid(self, value: Any) -> bool:
        return True

    def __repr__(self) -> str:
        return f"sample_from({getattr(self.func, '__name__', self.func)})"


def _check_step(q: float | None, lower: float, upper: float, scale: str) -> None:
    if q is None:
        return
    if q <= 0:
        raise ValueError(f"the step q is {q}; give a positive one")
    if scale == "normal" or q == 1:
        return
    for name, bound in (("lower", lower), ("upper", upper)):
        steps = bound / q
        if math.isfinite(bound) and abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"the {name} bound {bound} is no multiple of q={q}: rounding would leave the range")


def uniform(lower: float, upper: float) -> Float:
    """Real numbers in [lower, upper), evenly."""
    return Float(lower, upper)


def quniform(lower: float, upper: float, q: float) -> Float:
    """Multiples of `q` in [lower, upper], evenly."""
    return Float(lower, upper, q=q)


def loguniform(lower: float, upper: float, base: float = 10) -> Float:
    """Real numbers in [lower, upper), evenly over the orders of magnitude (whatever `base` they are counted in)."""
    _check_base(base)
    return Float(lower, upper, "log")


def qloguniform(lower: float, upper: float, q: float, base: float = 10) -> Float:
    """`loguniform` rounded to multiples of `q`."""
    _check_base(base)
    return Float(lower, upper, "log", q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Float:
    """Normally distributed real numbers."""
    return Float(None, None, "normal", None, mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Float:
    """`randn` rounded to multiples of `q`."""
    return Float(None, None, "normal", q, mean, sd)


def randint(lower: int, upper: int) -> Integer:
    """Whole numbers from `lower` to below `upper`."""
    return Integer(lower, upper)


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """Multiples of `q` from `lower` to `upper`, both included."""
    return Integer(lower, upper, q=q)


def lograndint(lower: int, upper: int, base: float = 10) -> Integer:
    """Whole numbers from `lower` to below `upper`, evenly over the orders of magnitude."""
    _check_base(base)
    return Integer(lower, upper, "log")


def qlograndint(lower: int, upper: int, q: int, base: float = 10) -> Integer:
    """Multiples of `q` from `lower` to `upper`, both included, evenly over the orders of magnitude."""
    _check_base(base)
    return Integer(lower, upper, "log", q)


def choice(categories: Sequence[Any]) -> Categorical:
    """One of the values."""
    return Categorical(categories)


def sample_from(func: Callable[..., Any]) -> Function:
    """A value computed by `func` from the other values.

    `func` is called without arguments or with the configuration, whose values are read as ``config["lr"]``,
    ``config.lr`` or ``spec.config.lr``. It may read values that are themselves drawn: they are drawn first.
    """
    return Function(func)


def grid_search(values: Sequence[Any]) -> dict[str, list[Any]]:
    """Every one of the values, crossed with all other grids, ``num_samples`` times."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"grid_search() needs a list of values, not {values!r}")
    return {"grid_search": list(values)}


def _check_base(base: float) -> None:
    if base <= 1:
        raise ValueError(f"the base of a logarithmic range is {base}; give one above 1")
