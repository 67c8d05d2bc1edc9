"""The import hook.

`ray` itself is a module of its own that hands out `trireme`'s attributes, because its `__version__` is Ray's; every module
below it *is* the module of Trireme. So classes and functions are identical under both names, and pickles that name one
load in a process that has the hook: workers install it when TRIREME_RAY says so.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from trireme._rayhook import names

#: Set to 1 in the environment of a job that runs a Ray program; workers inherit it.
VARIABLE = "TRIREME_RAY"


class Finder(importlib.abc.MetaPathFinder):
    """Finds `ray` and everything below it, before any other finder: an installed Ray is not used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "ray":
            return importlib.machinery.ModuleSpec(fullname, _TopLoader(), is_package=True)
        if not fullname.startswith("ray."):
            return None
        ours = names.ours(fullname)
        if ours is None or not _exists(ours):
            where = f" (there is no {ours})" if ours else ""
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: Trireme has no counterpart of it{where}", name=fullname
            )
        return importlib.machinery.ModuleSpec(fullname, _AliasLoader(fullname, ours), is_package=True)


def _exists(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # a parent is none


class _TopLoader(importlib.abc.Loader):
    """Makes the module `ray`."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Ray("ray", "Trireme under Ray's name.")

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = names.API_VERSION  # type: ignore[attr-defined]
        module.__commit__ = "trireme"  # type: ignore[attr-defined]


class _Ray(ModuleType):
    """Hands out `trireme`'s attributes, whatever they are at that moment."""

    def __getattr__(self, name: str) -> Any:
        import trireme

        try:
            return getattr(trireme, name)
        except AttributeError:
            pass
        if not name.startswith("__"):
            try:
                return importlib.import_module(f"ray.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"ray.{name}":
                    raise
        raise AttributeError(f"module 'ray' has no attribute {name!r}: Trireme has no counterpart of it")

    def __reduce__(self) -> tuple[Any, ...]:
        # A function that says `ray.get` takes the module along by name, as it does with any other.
        return importlib.import_module, ("ray",)

    def __dir__(self) -> list[str]:
        import trireme

        return sorted({*super().__dir__(), *dir(trireme)})


class _AliasLoader(importlib.abc.Loader):
    """Gives a module of Trireme a second name."""

    def __init__(self, alias: str, ours: str) -> None:
        self._alias = alias
        self._ours = ours
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._ours)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put the alias' spec into the module; its own says where its submodules and relatives are.
        module.__spec__ = self._spec
        # Submodules that are loaded get their second name here: importing them by it would bind them in the package, in
        # place of a function that has the same name (util.placement_group).
        for name, loaded in list(sys.modules.items()):
            if name.startswith(f"{self._ours}."):
                alias = self._alias + name[len(self._ours) :]
                if names.ours(alias) == name:
                    sys.modules.setdefault(alias, loaded)


def installed() -> bool:
    """Whether this process serves `ray` from Trireme."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


def install() -> None:
    """Serve `ray` from Trireme in this process and in the workers that it starts.

    Raises
    ------
    RuntimeError
        Ray itself was imported already.
    """
    if installed():
        return
    present = sys.modules.get("ray")
    if present is not None and not isinstance(present, _Ray):
        raise RuntimeError(
            f"ray was imported from {getattr(present, '__file__', '?')} before Trireme could stand in for it"
        )
    sys.meta_path.insert(0, Finder())
    os.environ[VARIABLE] = "1"
    # Ray programs count on a cluster that may grow.
    os.environ.setdefault("TRIREME_WAIT_FOR_RESOURCES", "1")


def install_if_asked() -> None:
    """Install the hook when the job was started for a Ray program."""
    if os.environ.get(VARIABLE) == "1":
        install()
