"""Trainables and environments by name, for this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_trainables: dict[str, Any] = {}
_envs: dict[str, Callable[[dict[str, Any]], Any]] = {}


def register_trainable(name: str, trainable: Any) -> None:
    """Makes a function, a Trainable class or a trainer known as `name`, for ``Tuner(name)`` and ``tune.run(name)``."""
    from trireme.tune.trainable.util import resolve

    _trainables[name] = resolve(trainable)


def get_trainable_cls(name: str) -> Any:
    """What was registered as `name`.

    Raises
    ------
    ValueError
        Nothing was; says what is.
    """
    if name not in _trainables:
        known = ", ".join(sorted(_trainables)) or "none"
        raise ValueError(f"no trainable {name!r} is registered (known: {known}); call tune.register_trainable() first")
    return _trainables[name]


def register_env(name: str, env_creator: Callable[[dict[str, Any]], Any]) -> None:
    """Makes an environment known as `name`."""
    if not callable(env_creator):
        raise TypeError(f"register_env: {env_creator!r} is no function of the environment's configuration")
    _envs[name] = env_creator


def get_env_creator(name: str) -> Callable[[dict[str, Any]], Any]:
    """What was registered as environment `name`; KeyError when nothing was."""
    return _envs[name]
