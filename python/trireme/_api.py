"""`get`, `put`, `wait`, `cancel`, `kill` and `remote`."""

from __future__ import annotations

import pickle
import types
from collections.abc import Sequence
from typing import Any

from trireme import _init, _options, _state
from trireme._actor import ActorClass, ActorHandle
from trireme._native import Value, get_many, get_one, put_plain, set_package, split
from trireme._object_ref import ObjectRef, ObjectRefGenerator
from trireme._remote_function import RemoteFunction
from trireme._serialization import _loads, load_with_refs, pack
from trireme.exceptions import GetTimeoutError


def get(object_refs: Any, *, timeout: float | None = None, _use_object_store: bool = False) -> Any:
    """The value of a reference, or the list of values of a list of references, once they are there.

    Parameters
    ----------
    object_refs
        A reference or a list of them, in any order.
    timeout
        In seconds; 0: only what is there now; None: without limit.

    Arrays in the values are read-only and not copied.

    Errors: what the task raised (as RayTaskError and its own class), or another RayError; of several, one at once,
    without waiting for the rest. GetTimeoutError. TypeError for what is no reference.
    """
    if type(object_refs) is ObjectRef and _state.core is not None:
        return get_one(object_refs, timeout)
    return _get_many(object_refs, timeout)


def _got_other(ref: ObjectRef, got: Any, timeout: float | None) -> Any:
    """For get_one(): what it got is no plain value, an error, or None because the time was up."""
    if type(got) is Value:
        refs, data = got.refs, got.data
        if refs:
            return load_with_refs(data, got.buffers, refs)
        return _loads(data, buffers=got.buffers) if data else None
    if got is None:
        raise _timed_out(timeout, [ref])
    from trireme._errors import error_of

    raise error_of(got, ref)


def _get_many(object_refs: Any, timeout: float | None) -> Any:
    if timeout is not None and (not isinstance(timeout, (int, float)) or (timeout < 0 and timeout != -1)):
        raise ValueError(f"timeout must be None or a number of seconds >= 0, not {timeout!r}")
    if timeout == -1:
        timeout = None
    if type(object_refs) is ObjectRef:
        return _get_many([object_refs], timeout)[0]
    if not isinstance(object_refs, (list, tuple)):
        custom = getattr(object_refs, "_trireme_get", None)  # compiled graphs and the like
        if custom is not None:
            return custom(timeout)
        raise ValueError(
            f"get() needs a reference or a list of references, not {_a(object_refs)}"
            + ("; iterate over the generator and get() the references it gives" if _is_generator(object_refs) else "")
        )
    if type(object_refs) is list and _state.core is not None:
        values = get_many(object_refs, timeout)
        if values is not None:
            return values
    return _get_one_by_one(object_refs, timeout)


def _got_many_other(refs: list[ObjectRef], timeout: float | None, timed_out: bool) -> list:
    """For get_many(): the time was up, or there is an error among them."""
    if timed_out:
        raise _timed_out(timeout, refs)
    return _get_one_by_one(refs, timeout)


def _get_one_by_one(object_refs: Sequence[Any], timeout: float | None) -> list:
    for i, ref in enumerate(object_refs):
        if type(ref) is not ObjectRef:
            raise ValueError(f"get() needs references; element {i} of the list is {_a(ref)}")
    if not object_refs:
        return []
    core = _init.core()
    try:
        values = core.get([ref._ref for ref in object_refs], timeout)
    except TimeoutError:
        raise _timed_out(timeout, object_refs) from None
    # An error first: values that are not ready beside it are None.
    for i, value in enumerate(values):
        if type(value) is not Value and value is not None:
            from trireme._errors import error_of

            raise error_of(value, object_refs[i])
    result = []
    for value in values:
        refs, data = value.refs, value.data
        if refs:
            result.append(load_with_refs(data, value.buffers, refs))
        else:
            result.append(_loads(data, buffers=value.buffers) if data else None)
    return result


def _timed_out(timeout: float | None, refs: Sequence[ObjectRef]) -> GetTimeoutError:
    late = [ref for ref in refs if not ref._ref.ready]
    return GetTimeoutError(
        f"get() timed out after {timeout} s: {len(late)} of {len(refs)} objects were not ready, the first is {(late or refs)[0]!r}"
    )


def _is_generator(value: Any) -> bool:
    return isinstance(value, (ObjectRefGenerator, types.GeneratorType))


def _a(value: Any) -> str:
    if isinstance(value, RemoteFunction):
        return f"the remote function {value._name} (call {value._name}.remote() for a reference)"
    if isinstance(value, ActorHandle):
        return f"the actor handle {value!r} (call one of its methods with .remote() for a reference)"
    return f"a {type(value).__name__}"


def put(value: Any, *, _owner: Any = None, _tensor_transport: str = "object_store") -> ObjectRef:
    """Stores a value and returns a reference to it. The value is copied once; later changes to it do not show.

    Errors: TypeError for a value that is itself a reference, or that cannot be pickled.
    """
    if type(value) is ObjectRef:
        raise TypeError(f"put({value!r}): it is a reference already; put it in a list to store the reference itself")
    core = _state.core or _init.core()
    made = put_plain(value)
    if made is not None:
        return made
    data, buffers, refs = pack(value)
    return ObjectRef(core.put(data, buffers, refs))


def wait(
    ray_waitables: Sequence[Any], *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list, list]:
    """Waits until `num_returns` of the references are ready, or the time (in seconds) is up.

    Returns
    -------
    (ready, rest)
        At most `num_returns` ready ones, and all others; both in the order of the argument.

    A value counts as ready once this rank has it: it is brought here, whatever `fetch_local` says, which is there for
    programs written for Ray.
    """
    if _state.core is not None and (timeout is None or timeout >= 0):
        made = split(ray_waitables, num_returns, timeout)
        if made is not None:
            return made
    if isinstance(ray_waitables, (ObjectRef, ObjectRefGenerator)):
        raise TypeError("wait() needs a list of references; put the one that you have in a list")
    if not isinstance(ray_waitables, (list, tuple)):
        raise TypeError(f"wait() needs a list of references, not {_a(ray_waitables)}")
    refs = list(ray_waitables)
    natives = []
    for i, ref in enumerate(refs):
        if type(ref) is ObjectRef:
            natives.append(ref._ref)
        elif type(ref) is ObjectRefGenerator:
            natives.append(ref._peek() if not ref._over else ref._end._ref)
        else:
            raise TypeError(f"wait() needs references; element {i} of the list is {_a(ref)}")
    if len(set(natives)) != len(natives):
        raise ValueError("wait() needs references that differ; some object is twice in the list")
    if not isinstance(num_returns, int) or num_returns < 1:
        raise ValueError(f"num_returns must be an integer >= 1, not {num_returns!r}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be None or a number of seconds >= 0, not {timeout!r}")
    if not refs:
        return [], []
    if num_returns > len(refs):
        raise ValueError(f"num_returns is {num_returns}, but there are only {len(refs)} references to wait for")
    core = _init.core()
    states = core.wait(natives, num_returns, timeout)
    ready: list = []
    rest: list = []
    for ref, is_ready in zip(refs, states):
        (ready if is_ready and len(ready) < num_returns else rest).append(ref)
    return ready, rest


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancels the task or call that makes an object; a get() of it then raises TaskCancelledError.

    A task that runs gets a KeyboardInterrupt; a coroutine of an async actor is cancelled as asyncio does; a call of another
    actor that runs goes on, and can ask `get_runtime_context().is_canceled()`; what has not begun never does, and has failed
    at once, also where it waits for its arguments. A task that ended stays as it is.

    Parameters
    ----------
    force
        Ends the worker process of a running task instead. A C++ call that runs fails at once, and its code goes on to its
        end; without force it ends where it asks (`trireme::python::check_cancelled()`).
    recursive
        What the task submitted is cancelled too.

    Errors: ValueError for force with a call of an actor that is not over, made by this process: kill() ends an actor. By
    another process, such a call is cancelled as without force. TypeError for what is no reference.
    """
    if type(ray_waitable) is ObjectRefGenerator:
        ray_waitable = ray_waitable._end
    if type(ray_waitable) is not ObjectRef:
        raise TypeError(f"cancel() needs a reference that a task or call returned, not {_a(ray_waitable)}")
    core, ref = _init.core(), ray_waitable._ref
    if force and ref.of_actor_call and not core.wait((ref,), 1, 0)[0]:
        raise ValueError(
            f"cancel({ray_waitable!r}, force=True): a call of an actor makes it, whose process has other calls too; cancel it "
            f"without force, or end the actor with kill()"
        )
    core.cancel(ref, force, recursive)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """Ends an actor's process at once. Calls under way fail with ActorDiedError.

    Parameters
    ----------
    no_restart
        False: as if it had crashed, so that max_restarts applies.
    """
    end = getattr(type(actor), "_trireme_end", None)  # actors that are no process
    if end is not None:
        end(actor)
        return
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"kill() needs the handle of an actor, not {_a(actor)}; use cancel() for tasks")  # noqa: TRY004 - as Ray has it
    _init.core().kill(actor._ref, no_restart)


def remote(*args: Any, **options: Any) -> Any:
    """Makes a function a remote function, or a class an actor class; `@remote` or `@remote(option=...)`.

    Options of tasks: num_cpus, num_gpus, memory, resources, num_returns, max_retries, retry_exceptions, max_calls,
    runtime_env, scheduling_strategy, label_selector, name, ... Options of actors: those of resources and place, and
    max_restarts, max_task_retries, max_concurrency, concurrency_groups, max_pending_calls, lifetime, name, namespace,
    get_if_exists, ...
    """
    if len(args) == 1 and not options and (callable(args[0])):
        return _make_remote(args[0], {})
    if args or not options:
        raise TypeError(
            "@trireme.remote is used without arguments, or with options by name, as in @trireme.remote(num_cpus=2)"
        )
    return lambda definition: _make_remote(definition, options)


def _make_remote(definition: Any, options: dict[str, Any]) -> Any:
    if isinstance(definition, (RemoteFunction, ActorClass)):
        raise TypeError(f"{definition!r} is remote already; use .options(...) to change its options")
    if isinstance(definition, type):
        _options.check("actor", options, f"the actor class {definition.__name__}")
        return ActorClass(definition, options)
    if callable(definition):
        name = getattr(definition, "__qualname__", repr(definition))
        _options.check("task", options, f"the task {name}")
        return RemoteFunction(definition, options)
    raise TypeError(f"@trireme.remote is for functions and classes, not for {definition!r}")


set_package(_state.__dict__, ObjectRef, pickle.dumps, pickle.loads, _got_other, _got_many_other)
