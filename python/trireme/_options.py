"""Task, actor and method options: names, defaults, checks, and what the runtime gets of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

Options = dict[str, Any]


class _Check:
    """One option: what it may be. `why` completes "option 'x' must be ..."; `types` says what is of the right type, and
    is wrong only in its value."""

    __slots__ = ("accepts", "types", "why")

    def __init__(self, accepts: Callable[[Any], bool], why: str, types: tuple[type, ...] = ()) -> None:
        self.accepts = accepts
        self.why = why
        self.types = types

    def error(self, value: Any) -> type[Exception]:
        if self.types:
            return ValueError if isinstance(value, self.types) and not isinstance(value, bool) else TypeError
        return ValueError if _is_number(value) or isinstance(value, str) else TypeError


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _optional(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


_amount = _Check(_optional(lambda v: _is_number(v) and v >= 0), "a number >= 0", (int, float))
_retries = _Check(lambda v: _is_int(v) and v >= -1, "an integer >= -1 (-1: without limit)", (int,))
_flag = _Check(lambda v: isinstance(v, bool), "True or False", (bool,))


def _is_resources(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(k) and _is_number(v) and v >= 0 for k, v in value.items())


def _is_retry_exceptions(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    return isinstance(value, (list, tuple)) and all(isinstance(c, type) and issubclass(c, BaseException) for c in value)


def _is_strategy(value: Any) -> bool:
    return value is None or (_text(value) and value in ("DEFAULT", "SPREAD")) or hasattr(value, "_trireme_place")


_COMMON = {
    "num_cpus": _amount,
    "num_gpus": _amount,
    "memory": _Check(_optional(lambda v: _is_number(v) and v >= 0), "a number of bytes >= 0", (int, float)),
    "resources": _Check(_optional(_is_resources), "a dict of resource name to number >= 0"),
    "accelerator_type": _Check(_optional(_text), "the name of an accelerator, as in trireme.util.accelerators", (str,)),
    "label_selector": _Check(
        _optional(lambda v: isinstance(v, dict) and all(_text(k) and _text(x) for k, x in v.items())),
        "a dict of label to value ('a', '!a', 'in(a, b)', '!in(a, b)')",
    ),
    "name": _Check(_optional(_text), "a text", (str,)),
    "runtime_env": _Check(_optional(lambda v: isinstance(v, dict) or hasattr(v, "to_dict")), "a dict", (dict,)),
    "scheduling_strategy": _Check(
        _is_strategy,
        "'DEFAULT', 'SPREAD', a PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy or NodeLabelSchedulingStrategy",
    ),
    "placement_group": _Check(
        lambda v: v is None or v == "default" or hasattr(v, "bundle_specs"), "a PlacementGroup or 'default'"
    ),
    "placement_group_bundle_index": _Check(lambda v: _is_int(v) and v >= -1, "an integer >= -1"),
    "placement_group_capture_child_tasks": _Check(lambda v: v is None or isinstance(v, bool), "True, False or None"),
    "enable_task_events": _flag,
    "_metadata": _Check(_optional(lambda v: isinstance(v, dict)), "a dict"),
    "_labels": _Check(_optional(lambda v: isinstance(v, dict)), "a dict"),
}

_RETURNS = _Check(
    lambda v: v is None or (_is_int(v) and v >= 0) or v in ("streaming", "dynamic"),
    "an integer >= 0, 'streaming' or 'dynamic'",
)
_RETRY = _Check(_is_retry_exceptions, "True, False or a list of exception classes")
_BACKPRESSURE = _Check(lambda v: v is None or (_is_int(v) and (v > 0 or v == -1)), "an integer > 0, or -1 for none")

TASK = {
    **_COMMON,
    "num_returns": _RETURNS,
    "max_retries": _retries,
    "retry_exceptions": _RETRY,
    "max_calls": _Check(lambda v: _is_int(v) and v >= 0, "an integer >= 0 (0: without limit)", (int,)),
    "_generator_backpressure_num_objects": _BACKPRESSURE,
}

ACTOR = {
    **_COMMON,
    "max_restarts": _retries,
    "max_task_retries": _retries,
    "max_concurrency": _Check(_optional(lambda v: _is_int(v) and v >= 1), "an integer >= 1", (int,)),
    "concurrency_groups": _Check(
        _optional(
            lambda v: (isinstance(v, dict) and all(_text(k) and _is_int(n) and n >= 1 for k, n in v.items()))
            or (isinstance(v, list) and all(isinstance(g, dict) and "name" in g for g in v))
        ),
        "a dict of group name to how many calls of it may run at once",
    ),
    "max_pending_calls": _Check(lambda v: _is_int(v) and (v >= 1 or v == -1), "an integer >= 1, or -1 for no limit"),
    "lifetime": _Check(lambda v: v in (None, "detached", "non_detached"), "'detached', 'non_detached' or None"),
    "namespace": _Check(_optional(lambda v: _text(v) and v != ""), "a text that is not empty", (str,)),
    "get_if_exists": _flag,
    "allow_out_of_order_execution": _Check(_optional(lambda v: isinstance(v, bool)), "True, False or None"),
}

METHOD = {
    "num_returns": _RETURNS,
    "concurrency_group": _Check(_optional(_text), "the name of one of the actor's concurrency groups"),
    "max_task_retries": _retries,
    "retry_exceptions": _RETRY,
    "_generator_backpressure_num_objects": _BACKPRESSURE,
    "enable_task_events": _flag,
    "tensor_transport": _Check(_optional(_text), "a text"),
}

#: `.options()` of an actor's method.
CALL = {**METHOD, "name": _Check(_optional(_text), "a text")}

#: Options that Ray programs may set and that change nothing here, by what they say when nobody set them.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "allow_out_of_order_execution": (None, False),
    "enable_task_events": (True,),
    "tensor_transport": (None,),
    "_metadata": (None,),
    "_labels": (None,),
}

_KINDS = {"task": TASK, "actor": ACTOR, "method": METHOD, "call": CALL}


def check(kind: str, options: Options, what: str) -> Options:
    """The options as they were given, after all of them were checked.

    Errors: ValueError for an unknown name (with the nearest there is) or a value out of range, TypeError for a wrong type.
    """
    known = _KINDS[kind]
    for name, value in options.items():
        rule = known.get(name)
        if rule is None:
            raise ValueError(_unknown(kind, name, what))
        if not rule.accepts(value):
            raise rule.error(value)(f"option {name!r} of {what} must be {rule.why}; it is {value!r}")
        if name in _WITHOUT_EFFECT and value not in _WITHOUT_EFFECT[name]:
            warnings.warn(f"option {name!r} of {what} has no effect in trireme", stacklevel=4)
    if "resources" in options:
        for name in options["resources"] or ():
            if name in ("CPU", "GPU", "memory", "object_store_memory"):
                option = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, "memory")
                raise ValueError(f"resources of {what}: use the option {option} instead of the resource {name!r}")
    if kind == "actor" and options.get("get_if_exists") and not options.get("name"):
        raise ValueError(f"get_if_exists of {what} needs a name to look for")
    if kind == "actor" and options.get("name") == "":
        raise ValueError(f"the name of {what} is empty")
    return options


def _unknown(kind: str, name: str, what: str) -> str:
    known = _KINDS[kind]
    text = f"{what} has no option {name!r}"
    for other, theirs in _KINDS.items():
        if name in theirs and other != "call":
            return f"{text}; it is an option of a{'n' if other == 'actor' else ''} {other}"
    import difflib

    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if nearest:
        return f"{text}; did you mean {nearest[0]!r}?"
    return f"{text}; there are: {', '.join(sorted(n for n in known if not n.startswith('_')))}"


def resources_of(options: Options, default_cpus: float) -> dict[str, float]:
    """What a task or actor holds while it runs, by name."""
    cpus = options.get("num_cpus")
    held: dict[str, float] = {"CPU": default_cpus if cpus is None else cpus}
    if options.get("num_gpus"):
        held["GPU"] = options["num_gpus"]
    if options.get("memory"):
        held["memory"] = options["memory"]
    held.update(options.get("resources") or {})
    accelerator = options.get("accelerator_type")
    if accelerator:
        held[f"accelerator_type:{accelerator}"] = 0.001
    return {name: amount for name, amount in held.items() if amount}


def native_options(options: Options, default_cpus: float) -> Any:
    """A new native Options with resources and the place, without what concerns only tasks or only actors."""
    from trireme._native import Options as NativeOptions

    native = NativeOptions()
    held = resources_of(options, default_cpus)
    native.num_cpus = held.pop("CPU", 0)
    native.num_gpus = held.pop("GPU", 0)
    native.memory = int(held.pop("memory", 0))
    native.resources = held
    strategy = options.get("scheduling_strategy")
    group = options.get("placement_group")
    if group is not None and group != "default":
        from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(
            group,
            options.get("placement_group_bundle_index", -1),
            options.get("placement_group_capture_child_tasks"),
        )
    if strategy == "SPREAD":
        native.spread = True
    elif strategy is not None and strategy != "DEFAULT":
        strategy._trireme_place(native)
    selector = options.get("label_selector")
    if selector:
        if native.group is not None:
            raise ValueError(
                "label_selector and a placement group at once: give the labels to the group's bundles, "
                "placement_group(bundles, bundle_label_selector=[...])"
            )
        from trireme._labels import place_by_selector

        place_by_selector(native, selector)
    return native


def strategy_of(options: Options) -> Any:
    """The strategy that was asked for; None when the default holds, which a captured placement group overrides."""
    strategy = options.get("scheduling_strategy")
    if strategy is None and options.get("placement_group") not in (None, "default"):
        return options["placement_group"]
    if strategy is None and options.get("label_selector"):
        return "DEFAULT"
    return strategy


def is_dynamic_place(options: Options) -> bool:
    """True when the place depends on the cluster as it is now, so that it is chosen at every call."""
    strategy = options.get("scheduling_strategy")
    return getattr(strategy, "_trireme_dynamic", False)
