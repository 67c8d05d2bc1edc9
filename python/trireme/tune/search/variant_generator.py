"""From a search space to configurations: finds grids and domains in nested dicts and lists, and resolves them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from trireme.tune.error import TuneError
from trireme.tune.search.sample import Domain

Path = tuple[Any, ...]


class RecursiveDependencyError(TuneError):
    """Values of `sample_from` need each other in a circle."""


class _NotYet(Exception):
    """A `sample_from` read a value that is not drawn yet."""


class _Known(Mapping[str, Any]):
    """A configuration as a `sample_from` function sees it: by key, by attribute, and under the name ``config``."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        if key == "config" and "config" not in self._values:
            return self
        value = self._values[key]
        if is_unresolved(value):
            raise _NotYet(key)
        return _Known(value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the search space has no value {name!r}; it has {sorted(map(str, self._values))}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def is_grid(value: Any) -> bool:
    """Whether `value` is what `grid_search` gives."""
    return isinstance(value, dict) and len(value) == 1 and "grid_search" in value


def is_unresolved(value: Any) -> bool:
    """Whether a value is still to be drawn or swept."""
    return isinstance(value, Domain) or is_grid(value)


def find_unresolved(space: Any, at: Path = ()) -> tuple[list[tuple[Path, Domain]], list[tuple[Path, list[Any]]]]:
    """The domains and grids in a space, each with the path to it, sorted by path.

    Raises
    ------
    TuneError
        A grid that is no list.
    """
    domains: list[tuple[Path, Domain]] = []
    grids: list[tuple[Path, list[Any]]] = []
    _walk(space, at, domains, grids)
    return sorted(domains, key=_in_order), sorted(grids, key=_in_order)


def _in_order(found: tuple[Path, Any]) -> list[str]:
    return [str(part) for part in found[0]]


def _walk(value: Any, at: Path, domains: list[tuple[Path, Domain]], grids: list[tuple[Path, list[Any]]]) -> None:
    if isinstance(value, Domain):
        domains.append((at, value))
    elif is_grid(value):
        if not isinstance(value["grid_search"], (list, tuple)):
            raise TuneError(f"grid_search at {'/'.join(map(str, at))} needs a list, not {value['grid_search']!r}")
        grids.append((at, list(value["grid_search"])))
    elif isinstance(value, dict):
        for key, inner in value.items():
            _walk(inner, (*at, key), domains, grids)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _walk(inner, (*at, index), domains, grids)


def assign(config: Any, path: Path, value: Any) -> None:
    """Sets the value at a path."""
    for part in path[:-1]:
        config = config[part]
    config[path[-1]] = value


def read(config: Any, path: Path) -> Any:
    """The value at a path."""
    for part in path:
        config = config[part]
    return config


def copy_space(value: Any) -> Any:
    """A copy of the dicts and lists of a space; what they hold (arrays, modules, references) is shared."""
    if isinstance(value, dict):
        return {key: copy_space(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copy_space(inner) for inner in value]
    return value


def draw_domains(
    config: dict[str, Any], rng: np.random.Generator, given: Mapping[Path, Any] | None = None
) -> dict[Path, Any]:
    """Replaces, in place, every domain by a value. Functions come last, in an order that their reads allow.

    Parameters
    ----------
    config
        The space with grids already resolved.
    rng
        Draws.
    given
        Values to take instead of drawing, by path.

    Returns
    -------
    dict
        Path to value, of what was drawn.

    Raises
    ------
    RecursiveDependencyError
        Functions read each other's values in a circle.
    """
    drawn: dict[Path, Any] = {}
    while True:
        waiting, _ = find_unresolved(config)
        if not waiting:
            return drawn
        plain = [found for found in waiting if not found[1].is_function()]
        blocked: dict[Path, Any] = {}
        for path, domain in plain or waiting:
            try:
                value = given[path] if given and path in given else domain.draw(rng, _Known(config))
            except _NotYet as reason:
                blocked[path] = reason.args[0]
                continue
            assign(config, path, copy_space(value))
            drawn[path] = value
        if len(blocked) == len(plain or waiting):
            circle = ", ".join(f"{'/'.join(map(str, path))} (reads {name})" for path, name in blocked.items())
            raise RecursiveDependencyError(f"these sample_from values wait for each other: {circle}")


def grid_points(grids: list[tuple[Path, list[Any]]]) -> Iterator[dict[Path, Any]]:
    """All combinations; the first path changes fastest."""
    total = 1
    for _, values in grids:
        total *= len(values)
    for index in range(total):
        point: dict[Path, Any] = {}
        for path, values in grids:
            index, at = divmod(index, len(values))
            point[path] = values[at]
        yield point


def generate_variants(
    space: Mapping[str, Any], random_state: Any = None, constant_grid_search: bool = False
) -> Iterator[tuple[dict[Path, Any], dict[str, Any]]]:
    """Every grid point of a space once, with the rest drawn.

    Parameters
    ----------
    space
        Nested dicts and lists with values, domains and grids.
    random_state
        Seed or generator.
    constant_grid_search
        True: drawn values are the same for all grid points of this sweep.

    Yields
    ------
    (dict, dict)
        What was chosen, by path; and the whole configuration, the caller's own.
    """
    from trireme.tune.search.sample import generator

    rng = generator(random_state)
    domains, grids = find_unresolved(space)
    fixed: dict[Path, Any] = {}
    for point in grid_points(grids):
        config = copy_space(dict(space))
        for path, value in point.items():
            assign(config, path, copy_space(value))
        drawn = draw_domains(config, rng, fixed if constant_grid_search else None)
        if constant_grid_search and not fixed:
            fixed = (
                {path: value for path, value in drawn.items() if not dict(domains)[path].is_function()}
                if domains
                else {}
            )
        inner_grids = find_unresolved(config)[1]
        if inner_grids:  # a grid inside a chosen value
            for inner, resolved in generate_variants(config, rng):
                yield {**point, **drawn, **inner}, resolved
        else:
            yield {**point, **drawn}, config


def count_variants(space: Mapping[str, Any]) -> int:
    """Grid points of a space."""
    total = 1
    for _, values in find_unresolved(space)[1]:
        total *= len(values)
    return total


def set_point(space: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the space in which the values of `point` (nested, or with keys ``a/b``) replace what stands there."""
    config = copy_space(dict(space))
    for path, value in _leaves(point):
        where = config
        for part in path[:-1]:
            where = where.setdefault(part, {})
        where[path[-1]] = copy.copy(value)
    return config


def _leaves(point: Mapping[str, Any], at: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in point.items():
        path = (*at, *(key.split("/") if isinstance(key, str) else (key,)))
        if isinstance(value, dict) and value and not is_grid(value):
            yield from _leaves(value, path)
        else:
            yield path, value
