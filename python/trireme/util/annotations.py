"""Ray's marks for how stable a name is, for libraries that put them on their own. They change nothing."""

from __future__ import annotations

from typing import Any

__all__ = ["Deprecated", "DeveloperAPI", "PublicAPI"]


def _mark(*args: Any, **_: Any) -> Any:
    """`@Mark` and `@Mark(stability="beta")` alike give the definition as it is."""
    if len(args) == 1 and callable(args[0]):
        return args[0]
    return lambda definition: definition


PublicAPI = DeveloperAPI = Deprecated = _mark
