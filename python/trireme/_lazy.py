"""Names of a package that are imported when they are first used, so that `import trireme` stays fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def _module(package: str, name: str) -> Any:
    full = f"{package}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        # A part that is not installed; hasattr() can be asked about it.
        raise AttributeError(f"module {package!r} has no attribute {name!r}: there is no {full}") from None


def attach(
    package: str, names: dict[str, str], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package.

    Parameters
    ----------
    package
        The package's `__name__`.
    names
        Attribute to the submodule that defines it, relative to the package (`"queue"`) or absolute (`"trireme.util"`).
    modules
        Submodules that are attributes themselves.
    """

    def load(name: str) -> Any:
        if name in names:
            where = names[name]
            module = importlib.import_module(where if where.startswith("trireme") else f"{package}.{where}")
            value = getattr(module, name)
        elif name in modules:
            value = _module(package, name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def listing() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *modules})

    return load, listing
