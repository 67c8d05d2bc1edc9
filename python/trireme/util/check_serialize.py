"""Finds what in an object cannot be serialized."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO


class FailureTuple(NamedTuple):
    """Something that cannot be serialized."""

    obj: Any
    name: str  # the name it has in its parent: a variable, an attribute, `[key]`
    parent: Any
    path: str = ""  # from the object that was asked about down to this one

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Say whether an object can be sent to a task, and if not, which of its parts cannot.

    Parameters
    ----------
    base_obj
        Any object; functions and classes too.
    name
        What to call it in the output.
    depth
        How many levels of parts to look into.
    print_file
        Where the report goes; standard output by default.

    Returns
    -------
    tuple of bool and set of FailureTuple
        Whether it can be serialized, and the innermost parts that cannot.
    """
    if depth < 1:
        raise ValueError(f"depth is at least 1, but {depth} was given")
    out = print_file if print_file is not None else sys.stdout
    name = name or getattr(base_obj, "__qualname__", None) or type(base_obj).__name__
    print(f"Checking whether {name} can be serialized", file=out)
    failures: list[FailureTuple] = []
    error = _error(base_obj)
    if error is not None:
        _search(base_obj, name, None, name, depth, failures, {id(base_obj)})
        print(f"  no: {type(error).__name__}: {error}", file=out)
        for failure in failures:
            print(f"  cannot be serialized: {failure.path} = {_short(failure.obj)}", file=out)
    else:
        print("  yes", file=out)
    return error is None, _as_set(failures)


def _as_set(failures: list[FailureTuple]) -> set[FailureTuple]:
    # Objects that have no hash stand in it by their representation.
    unhashable = [f._replace(obj=_hashable(f.obj), parent=_hashable(f.parent)) for f in failures]
    return set(unhashable)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return _short(value)
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _error(value: Any) -> Exception | None:
    from trireme import _serialization

    try:
        _serialization.pack(value)
    except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
        return error
    return None


def _search(
    value: Any, name: str, parent: Any, path: str, depth: int, failures: list[FailureTuple], seen: set[int]
) -> None:
    """Add the innermost parts of `value`, which cannot be serialized, that cannot either."""
    found = False
    if depth > 0:
        for part_name, part_path, part in _parts(value, path):
            if id(part) in seen:
                continue
            seen.add(id(part))
            if _error(part) is not None:
                found = True
                _search(part, part_name, value, part_path, depth - 1, failures, seen)
    if not found:
        failures.append(FailureTuple(value, name, parent, path))


def _parts(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield what serializing `value` would take along: (name, path, part)."""
    if inspect.isfunction(value) or inspect.ismethod(value):
        closure = inspect.getclosurevars(value)
        for name, part in {**closure.globals, **closure.nonlocals}.items():
            if not inspect.ismodule(part):
                yield name, f"{path} -> {name}", part
        if inspect.ismethod(value):
            yield "__self__", f"{path}.__self__", value.__self__
        for index, part in enumerate(getattr(value, "__defaults__", None) or ()):
            yield f"default {index}", f"{path}.__defaults__[{index}]", part
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", f"{path}[{key!r}]", part
            yield "key", f"{path} key {key!r}", key
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, part in enumerate(value):
            yield f"[{index}]", f"{path}[{index}]", part
    elif inspect.isclass(value):
        for name, part in vars(value).items():
            if not name.startswith("__") or inspect.isfunction(part):
                yield name, f"{path}.{name}", part.__func__ if isinstance(part, (staticmethod, classmethod)) else part
    else:
        slots = [slot for cls in type(value).__mro__ for slot in _as_tuple(getattr(cls, "__slots__", ()))]
        attributes = dict(getattr(value, "__dict__", {}))
        attributes.update({slot: getattr(value, slot) for slot in slots if hasattr(value, slot)})
        for name, part in attributes.items():
            yield name, f"{path}.{name}", part
        for name in ("func", "args", "keywords"):  # functools.partial
            if name not in attributes and type(value).__name__ == "partial":
                yield name, f"{path}.{name}", getattr(value, name)


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
