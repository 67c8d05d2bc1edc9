"""Trainables with large arguments and with resources; what a trainable is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trireme.train._config import ScalingConfig
from trireme.tune.execution.placement_groups import PlacementGroupFactory, resource_dict_to_pg_factory
from trireme.tune.trainable.trainable import Trainable

Resources = "Mapping[str, Any] | PlacementGroupFactory | ScalingConfig | Callable[[dict], Any]"


class _Stored:
    """Arguments in the object store, fetched once in each process. Pickles as references."""

    def __init__(self, refs: dict[str, Any]) -> None:
        self._refs = refs
        self._values: dict[str, Any] | None = None

    def get(self) -> dict[str, Any]:
        if self._values is None:
            import trireme

            self._values = dict(zip(self._refs, trireme.get(list(self._refs.values()))))
        return self._values

    def __getstate__(self) -> dict[str, Any]:
        return {"_refs": self._refs, "_values": None}


def with_parameters(trainable: Callable[..., Any] | type[Trainable], **kwargs: Any) -> Any:
    """A trainable with further arguments, which are put into the object store once instead of being sent to each trial.

    Parameters
    ----------
    trainable
        A function ``f(config, a=..., b=...)``, or a class whose ``setup(config, a=..., b=...)`` takes them.
    kwargs
        Arguments of any size; arrays arrive read-only and without a copy.

    Raises
    ------
    TypeError
        `trainable` takes no such argument.
    """
    import trireme

    target = trainable.setup if inspect.isclass(trainable) else trainable
    accepted = inspect.signature(target).parameters
    if not any(p.kind == p.VAR_KEYWORD for p in accepted.values()):
        unknown = [name for name in kwargs if name not in accepted]
        if unknown:
            raise TypeError(
                f"with_parameters: {target.__qualname__}() takes no argument {', '.join(unknown)}; it takes "
                f"{', '.join(accepted)}"
            )
    stored = _Stored({name: trireme.put(value) for name, value in kwargs.items()})
    if inspect.isclass(trainable):

        def setup(self: Any, config: dict[str, Any]) -> None:
            trainable.setup(self, config, **stored.get())

        wrapped: Any = type(trainable.__name__, (trainable,), {"setup": setup, "__module__": trainable.__module__})
    else:

        def wrapped(config: dict[str, Any]) -> Any:
            return trainable(config, **stored.get())

        functools.update_wrapper(wrapped, trainable)
        del wrapped.__wrapped__  # its signature is that of the wrapper
    if hasattr(trainable, "_resources"):
        wrapped._resources = trainable._resources
    return wrapped


def with_resources(trainable: Any, resources: Any) -> Any:
    """A trainable whose trials reserve resources.

    Parameters
    ----------
    trainable
        A function, a class, or a trainer.
    resources
        A dict (``{"cpu": 2, "gpu": 0.5, "memory": bytes, "name": 1}``), a `PlacementGroupFactory`, a `ScalingConfig`,
        or a function of the configuration that returns one of them.
    """
    if not isinstance(resources, (Mapping, PlacementGroupFactory, ScalingConfig)) and not callable(resources):
        raise TypeError(f"with_resources: {resources!r} is no dict, PlacementGroupFactory, ScalingConfig or function")
    if isinstance(resources, Mapping):
        resource_dict_to_pg_factory(resources)  # errors here rather than at the first trial
    if hasattr(trainable, "as_trainable"):
        trainable = trainable.as_trainable()
    if inspect.isclass(trainable):
        wrapped: Any = type(trainable.__name__, (trainable,), {"__module__": trainable.__module__})
    else:

        def wrapped(config: dict[str, Any]) -> Any:
            return trainable(config)

        functools.update_wrapper(wrapped, trainable)
        del wrapped.__wrapped__
    wrapped._resources = resources
    return wrapped


def request_of(trainable: Any, config: dict[str, Any]) -> PlacementGroupFactory:
    """What a trial of a trainable reserves with this configuration; 1 CPU when nothing is said."""
    asked = getattr(trainable, "_resources", None)
    if asked is None and inspect.isclass(trainable):
        asked = trainable.default_resource_request(config)
    if inspect.isfunction(asked) or (callable(asked) and not isinstance(asked, (PlacementGroupFactory, ScalingConfig))):
        asked = asked(config)
    if isinstance(asked, PlacementGroupFactory):
        return asked
    if isinstance(asked, ScalingConfig):
        if asked.label_selector is not None:
            raise ValueError("ScalingConfig.label_selector is not supported in a Tune trial; only Trainer.fit() has it")
        if not asked.max_workers:
            raise ValueError("ScalingConfig(num_workers=0) trains in the process that calls fit(); a Tune trial needs a worker")
        head = dict(asked.trainer_resources or {})
        return PlacementGroupFactory([head] + [asked.worker_resources()] * asked.max_workers, asked.placement_strategy)
    return resource_dict_to_pg_factory(asked)


def name_of(trainable: Any) -> str:
    """The name in trial names and folders."""
    inner = trainable.func if isinstance(trainable, functools.partial) else trainable
    name = getattr(inner, "__name__", type(inner).__name__)
    return "lambda" if name == "<lambda>" else name


def resolve(trainable: Any) -> Any:
    """A function or a `Trainable` subclass from what a user gives: one of these, a trainer, or a registered name.

    Raises
    ------
    TypeError
        None of these.
    """
    from trireme.tune.registry import get_trainable_cls

    if isinstance(trainable, str):
        return get_trainable_cls(trainable)
    if hasattr(trainable, "as_trainable"):
        return trainable.as_trainable()
    if inspect.isclass(trainable):
        if not issubclass(trainable, Trainable):
            raise TypeError(
                f"the class {trainable.__name__} is no trireme.tune.Trainable; derive it, or give a function"
            )
        return trainable
    if not callable(trainable):
        raise TypeError(
            f"{trainable!r} is no trainable: give a function of the configuration, a Trainable class, a "
            "trainer, or a name given to register_trainable()"
        )
    try:
        parameters = list(inspect.signature(trainable).parameters.values())
    except (TypeError, ValueError):
        return trainable
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or len(required) > 1:
        names = ", ".join(p.name for p in required)
        raise TypeError(
            f"a function trainable takes one argument, the configuration; {name_of(trainable)}() takes "
            f"{'(' + names + ')' if names else 'none'}. Use tune.with_parameters for further ones"
        )
    return trainable
