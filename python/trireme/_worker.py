"""A worker process: takes tasks, or is one actor, until its rank says that it is enough.

The process has as many threads as it needs and no more: one for tasks, plain and async actors, as many more as
`max_concurrency` says for threaded ones.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from typing import Any

import _signal

from trireme import _errors, _observe, _output, _reseed, _state
from trireme._functions import imported
from trireme._native import WorkerCore
from trireme._serialization import NONE_RESULT, _loads, load_with_refs, pack, unpack_args

_GENERATOR = 0x20
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200


class Work:
    """What the worker knows of one kind of call: a task with its options, or a method of its actor."""

    __slots__ = (
        "capture", "flags", "function", "gpus", "group", "max_calls", "max_retries", "name", "num_returns", "placement",
        "plain", "resources", "retry",
    )  # fmt: skip

    def __init__(self, function: Any, name: str, num_returns: Any, retry: Any, max_retries: int) -> None:
        from trireme._remote_function import code_flags

        self.function = function
        self.name = name
        self.num_returns = num_returns
        self.flags = code_flags(getattr(function, "__func__", function))
        self.retry = retry
        self.max_retries = max_retries
        self.max_calls = 0
        self.group: str | None = None  # concurrency group
        self.placement: Any = None  # placement group
        self.capture: Any = None  # the same, when it captures children
        self.resources: dict[str, float] = {}
        self.gpus = False
        # One result, nothing to prepare.
        self.plain = num_returns == 1 and not self.flags & (_GENERATOR | _COROUTINE | _ASYNC_GENERATOR)

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether that exception is a reason to run again."""
        if not self.retry or (0 <= self.max_retries <= attempt):
            return False
        if self.retry is True:
            return isinstance(error, Exception)
        return isinstance(error, self.retry)


class Worker:
    """This process. Threading: its attributes are written by the main thread only."""

    def __init__(self, core: Any, env: dict[str, Any]) -> None:
        self.core = core
        self.env = env
        self.is_actor = False
        self.actor: Any = None
        self.actor_spec: dict[str, Any] = {}
        self.restarted = False
        self.gpu_ids: list[int] = []
        self.yielded = 0  # items of the streaming task that runs
        self.work: Work | None = None  # what it runs, or ran last
        self.broken: BaseException | None = None  # why the runtime environment could not be made
        self._ready = False
        self._mode: Any = None  # of an actor that is not plain
        self._works: dict[bytes, Work] = {}
        self._calls: dict[bytes, int] = {}
        self._label = ""
        self._leaving = False

    # The main loop.

    def run(self) -> None:
        step, next_task = self.step, self.core.next
        # Plain calls of known functions and methods run inside of next(): see _know().
        self.core.set_hooks(self._enter, self._deliver_one, self._failed_plain, self._end_output)
        if _observe.recorder is not None:
            self.core.set_records(_observe.recorder.records, _observe.TASK)
        # A task is dropped before the next is waited for, and with it what it holds in the arena.
        while step(next_task()):
            if self._mode is not None and self._mode.takes_work:
                break
        if self._mode is not None:
            self._mode.serve()

    def step(self, task: Any) -> bool:
        """Does what came; False: there is nothing more to do. By the main thread."""
        if task is None:
            return False
        kind = task.kind
        if kind == "cancel":
            if self._mode is not None:
                self._mode.cancel(task.token)
            return True
        try:
            work = self._works.get(task.meta) or self._load(task)
        except BaseException as error:  # noqa: BLE001 - user code raises anything
            self.fail(task, self._name_of(task), error)
            return True
        if kind == "create":
            return True
        if self._mode is not None:
            self._mode.start(task, work)
            return True
        self.execute(task, work)
        return not self._leaving

    def execute(self, task: Any, work: Work, attempt: int | None = None) -> None:
        """Runs one call in the main thread."""
        token = task.token
        core = self.core
        if self.work is not work:
            self._enter(work)
        if work.gpus:
            self._give_gpus(task.gpus)
        if attempt is None:
            attempt = task.attempt
        self.yielded = 0
        recorder = _observe.recorder
        kind = _observe.CALL if self.is_actor else _observe.TASK
        while True:
            record = recorder.begin(kind, work.name, attempt, token) if recorder is not None else 0
            core.running = token
            try:
                if core.cancelled == token:
                    raise KeyboardInterrupt
                value = task.args
                data = value.data
                if not data:
                    result = work.function()
                elif value.refs:
                    args, kwargs = unpack_args(task, value.refs)
                    result = work.function(*args, **kwargs)
                else:
                    call = _loads(data, buffers=value.buffers)
                    if type(call) is tuple:
                        result = work.function(*call)
                    else:
                        result = work.function(*call[0], **call[1])
                if recorder is not None and work.num_returns != "streaming":
                    recorder.end(record)
                if work.plain:
                    core.running = 0
                    core.finish(token, (NONE_RESULT if result is None else pack(result),))
                else:
                    self.deliver(task, work, result)
                    core.running = 0
                    if recorder is not None:
                        recorder.end(record)
            except BaseException as error:  # noqa: BLE001 - user code raises anything
                core.running = 0
                if recorder is not None:
                    recorder.end(record, type(error).__name__)
                if isinstance(error, Exception) and work.retries(error, attempt):
                    attempt += 1
                    continue
                self.fail(task, work.name, error)
            break
        if core.wrote:
            self._end_output()
        if work.max_calls:
            self._count_call(task.meta, work)

    # The same for plain calls, which run inside of core.next(): what is left to do here.

    def _know(self, meta: bytes, work: Work) -> None:
        if work.plain and not work.gpus and not work.max_calls and self._mode is None:
            self.core.add_plain(meta, work, work.function, work.name)

    def _end_output(self) -> None:
        self.core.wrote = False
        _output.end()

    def _deliver_one(self, token: int, result: Any) -> None:
        self.core.finish(token, (pack(result),))

    def _failed_plain(self, task: Any, work: Work, error: BaseException) -> None:
        if isinstance(error, Exception) and work.retries(error, task.attempt):
            self.execute(task, work, task.attempt + 1)
        else:
            self.fail(task, work.name, error)

    def deliver(self, task: Any, work: Work, result: Any) -> None:
        """Hands out the result of a call as its num_returns says."""
        core, token = self.core, task.token
        wanted = work.num_returns
        if work.flags & (_COROUTINE | _ASYNC_GENERATOR):
            result = _run_coroutine(result, work.flags)
        if wanted == "streaming":
            # After a retry, what was yielded before is not yielded again.
            for number, item in enumerate(_iterable(result, work)):
                if number >= self.yielded:
                    core.yield_item(token, *pack(item))
                    self.yielded = number + 1
            core.finish(token, ())
        else:
            core.finish(token, self.results(work, result))

    def results(self, work: Work, result: Any) -> Any:
        wanted = work.num_returns
        if wanted == 1:
            return (pack(result),)
        if wanted == 0:
            return (NONE_RESULT,)
        if wanted == "dynamic":
            from trireme._api import put
            from trireme._object_ref import DynamicObjectRefGenerator

            return (pack(DynamicObjectRefGenerator([put(item) for item in _iterable(result, work)])),)
        try:
            values = list(result)
        except TypeError:
            raise TypeError(
                f"{work.name} has num_returns={wanted}, so it must return {wanted} values; it returned a "
                f"{type(result).__name__}"
            ) from None
        if len(values) != wanted:
            raise ValueError(f"{work.name} has num_returns={wanted}, but it returned {len(values)} values")
        return [pack(value) for value in values]

    def fail(self, task: Any, name: str, error: BaseException) -> None:
        """Tells the runtime how a call failed, and does what exits ask for."""
        from trireme._actor import ActorExit

        core, token = self.core, task.token
        if isinstance(error, ActorExit) or (isinstance(error, SystemExit) and self.is_actor):
            core.exit_actor()
            core.fail(token, "the actor left by exit_actor()", "ActorDiedError", b"")
            _leave(0)
        elif isinstance(error, SystemExit):
            _leave(error.code if isinstance(error.code, int) else int(error.code is not None))
        elif isinstance(error, KeyboardInterrupt) and core.cancelled == token:
            core.fail(token, "the task was cancelled", "TaskCancelledError", b"")
        elif type(error).__name__ == "Failed" and type(error).__module__ == "trireme._local":
            core.fail(token, *error.args)
        else:
            text, kind, payload = _errors.describe(error, name, core.rank, task.kind == "create")
            if self.broken is error:
                text, kind, payload = str(error), "RuntimeEnvSetupError", b""
            core.fail(token, text, kind, payload)
        error.__traceback__ = None

    def on_interrupt(self, *_: Any) -> None:
        """SIGINT: the runtime wants what runs now cancelled."""
        running = self.core.running
        if running and self.core.cancelled == running:
            self.core.note_interrupted(running)  # once: what the call does about it is not interrupted again
            raise KeyboardInterrupt

    # What calls need before they run.

    def _load(self, task: Any) -> Work:
        """The work that a call names, seen for the first time. Creations are done here as well."""
        if not self._ready:
            self._prepare()
        if self.broken is not None:
            raise self.broken
        meta = bytes(task.meta)
        if task.kind == "create":
            self._create(task, meta)
            return Work(None, "", 1, False, 0)
        work = self._load_method(meta) if self.is_actor else self._load_function(task, meta)
        self._works[meta] = work
        self._know(meta, work)
        return work

    def _prepare(self) -> None:
        """What the job asks of every worker; before the first call, because then rank 0 has said it."""
        from trireme._init import JOB_KEY

        _state.job = job = pickle.loads(self.core.imported(0, JOB_KEY))
        known = job["sys_path"]
        sys.path[:] = known + [place for place in sys.path if place not in known]
        self._ready = True
        if job.get("logging_config") is not None:  # a C++ program's job has none
            from trireme import _log_config

            _log_config.apply(job["logging_config"])
        env = self.env or job["runtime_env"]
        if "working_dir" not in env:
            try:
                os.chdir(job["cwd"])
            except OSError:
                pass  # a folder that only the driver's node has
        if env:
            from trireme import _runtime_env

            began = time.monotonic()
            try:
                _runtime_env.apply(env)
            except BaseException as error:  # noqa: BLE001 - user code raises anything
                self.broken = error
            _observe.keep_environment(env, self.broken, time.monotonic() - began)

    def _load_function(self, task: Any, meta: bytes) -> Work:
        spec = pickle.loads(imported(meta))
        closed_over = spec["refs"]
        refs = task.args.refs
        function = load_with_refs(imported(spec["function"]), None, refs[len(refs) - closed_over :])
        work = Work(function, spec["name"], spec["num_returns"], spec["retry"], spec["max_retries"])
        work.max_calls = spec["max_calls"]
        _place(work, spec)
        return work

    def _load_method(self, meta: bytes) -> Work:
        special: dict[str, Any] = {}
        if meta[:1] == b"\0":
            name, special = pickle.loads(meta[1:])
        else:
            name = meta.decode()
        function = _built_in(self.actor, name) or getattr(self.actor, name)
        retries = special.get("max_task_retries")
        if retries is None:
            retries = self.actor_spec["max_task_retries"]
        label = f"{self.actor_spec['name']}.{name}"
        work = Work(function, label, special.get("num_returns", 1), special.get("retry", False), retries)
        marked = getattr(function, "__trireme_method__", {})
        work.group = special.get("group") or marked.get("concurrency_group")
        _place(work, self.actor_spec)
        return work

    def _create(self, task: Any, meta: bytes) -> None:
        spec = pickle.loads(imported(meta))
        refs = task.args.refs
        closed_over = spec["refs"]
        cls = load_with_refs(imported(spec["class"]), None, refs[len(refs) - closed_over :])
        self.is_actor = True
        self.actor_spec = spec
        self.restarted = task.attempt > 0
        self._set_label(spec["actor_name"] or spec["name"])
        if spec["capture"]:
            _state.captured_group = spec["group"]
        if spec["resources"].get("GPU"):
            self._give_gpus(task.gpus)
        recorder = _observe.recorder
        if recorder is not None:
            self.core.set_records(recorder.records, _observe.CALL)
            me = self.core.actor()  # None when all handles are gone
            recorder.describe(
                actor_id=me.id if me is not None else "",
                class_name=spec["name"],
                name=spec["actor_name"],
                namespace=spec["namespace"],
            )
            record = recorder.begin(_observe.CREATION, spec["name"], task.attempt, task.token)
        args, kwargs = unpack_args(task, refs) if task.args.data else ((), {})
        mode = self._make_mode(spec)
        self.core.running = 0
        self.actor = mode.construct(cls, args, kwargs) if mode is not None else cls(*args, **kwargs)
        self._mode = mode
        if recorder is not None:
            recorder.end(record)
        self.core.finish(task.token, (NONE_RESULT,) * task.returns)

    def _make_mode(self, spec: dict[str, Any]) -> Any:
        if spec["async"]:
            from trireme._worker_async import AsyncMode

            return AsyncMode(self, spec["max_concurrency"], spec["groups"])
        if spec["max_concurrency"] > 1 or spec["groups"]:
            from trireme._worker_threads import ThreadMode

            return ThreadMode(self, spec["max_concurrency"], spec["groups"])
        return None

    def _enter(self, work: Work) -> None:
        self.work = self.core.current = work
        if not self.is_actor:
            self._set_label(work.name)
            _state.captured_group = work.capture

    def _set_label(self, label: str) -> None:
        if label != self._label:
            self._label = label
            self.core.set_label(label)

    def _give_gpus(self, gpus: list[int]) -> None:
        if gpus == self.gpu_ids:
            return
        self.gpu_ids = list(gpus)
        ours = [device for device in _RANK_DEVICES.split(",") if device]
        named = [ours[i] if i < len(ours) else str(i) for i in gpus]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(named)

    def _count_call(self, meta: bytes, work: Work) -> None:
        meta = bytes(meta)
        self._calls[meta] = self._calls.get(meta, 0) + 1
        self._leaving = self._calls[meta] >= work.max_calls

    def _name_of(self, task: Any) -> str:
        if self.is_actor:
            return self.actor_spec.get("name", "actor")
        return "an actor's constructor" if task.kind == "create" else "a task"

    @property
    def concurrent(self) -> bool:
        """Calls may run at the same time."""
        return self._mode is not None

    def token(self) -> int:
        """Of the call that the calling thread or coroutine runs; 0 for none."""
        return self._mode.token() if self._mode is not None else self.core.running

    def is_cancelled(self) -> bool:
        """Whether the call that the calling thread runs was cancelled. Errors: RuntimeError in an async actor."""
        if self._mode is not None:
            return self._mode.is_cancelled()
        return self.core.running != 0 and self.core.cancelled == self.core.running

    def present_work(self) -> Work | None:
        """What the calling thread or coroutine runs, or ran last."""
        return self._mode.work() if self._mode is not None else self.work

    def placement_group(self) -> Any:
        if self.is_actor:
            return self.actor_spec["group"]
        return self.work.placement if self.work is not None else None


def _place(work: Work, spec: dict[str, Any]) -> None:
    work.placement = spec["group"]
    work.capture = spec["group"] if spec["capture"] else None
    work.resources = spec["resources"]
    work.gpus = bool(spec["resources"].get("GPU")) and "class" not in spec


def _built_in(actor: Any, name: str) -> Any:
    if name == "__ray_ready__":
        return lambda: True
    if name == "__ray_call__":
        return lambda function, *args, **kwargs: function(actor, *args, **kwargs)
    if name == "__ray_terminate__":
        from trireme._actor import ActorExit

        def leave() -> None:
            raise ActorExit

        return leave
    return None


def _iterable(result: Any, work: Work) -> Any:
    try:
        return iter(result)
    except TypeError:
        raise TypeError(
            f"{work.name} has num_returns={work.num_returns!r}, so it must be a generator or return something to iterate "
            f"over; it returned a {type(result).__name__}"
        ) from None


def _run_coroutine(result: Any, flags: int) -> Any:
    """A coroutine function outside of async actors: runs to its end in this thread."""
    import asyncio

    if not flags & _ASYNC_GENERATOR:
        return asyncio.run(result)

    def items() -> Any:
        loop = asyncio.new_event_loop()
        try:
            while True:
                try:
                    yield loop.run_until_complete(result.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            loop.close()

    return items()


#: Programs of this job import it as `ray`.
_serves_ray = False
_RANK_DEVICES = os.environ.get("CUDA_VISIBLE_DEVICES", "")


def _leave(status: int) -> None:
    """Ends the process as an interpreter would, without waiting for threads."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass
    os._exit(status)


def prepare_process() -> None:
    """What holds in all workers: done once in the template process, or in an interpreter of its own."""
    _output.replace_streams()
    import faulthandler

    faulthandler.enable(all_threads=False)
    _observe.prepare()
    global _serves_ray
    _serves_ray = os.environ.get("TRIREME_RAY") == "1"


def start(command: bytes, environment: str, root: str) -> None:
    """The life of a worker process; `command` as the rank gave it to the template process, with its `env`. Does not
    return.
    """
    env = json.loads(environment) if environment else {}
    broken = None
    if env.get("py_executable") and os.environ.pop("TRIREME_WORKER_STARTED", None) is None:
        broken = _start_in(env, command, root)
    _reseed.reseed()
    worker = Worker(WorkerCore(command), env)
    _observe.start_worker(rank=worker.core.rank, worker_id=worker.core.worker_id)
    if _serves_ray:  # its import is dear
        from trireme import _rayhook

        _rayhook.install_if_asked()
    worker.broken = broken
    _state.core = worker.core
    _state.worker = worker
    _state.session = 1
    _signal.signal(_signal.SIGINT, worker.on_interrupt)
    worker.run()
    _leave(0)


def _start_in(env: dict[str, Any], command: bytes, root: str) -> BaseException:
    """Goes on in the interpreter that the environment names. Returns only when that fails: why."""
    from trireme import _runtime_env
    from trireme.exceptions import RuntimeEnvSetupError

    program = "import sys; sys.path[0] = sys.argv[1]; from trireme._worker import main; main()"
    words = _runtime_env.command_of(env) or []
    variables = {**os.environ, **env.get("env_vars", {}), "TRIREME_WORKER_STARTED": "1"}
    try:
        os.execvpe(words[0], [*words, "-c", program, root, command.decode()], variables)
    except OSError as error:
        return RuntimeEnvSetupError(f"runtime_env['py_executable']={env['py_executable']!r} cannot be started: {error}")


def main() -> None:
    """A worker in an interpreter of its own: see _start_in()."""
    root, command = sys.argv[1], sys.argv[2].encode()
    sys.path[0:1] = []
    sys.path.append(root)
    sys.argv = ["trireme worker"]
    prepare_process()
    start(command, json.loads(command)["env"], root)
