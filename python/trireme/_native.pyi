"""What the package needs of the compiled runtime. Two classes with one set of methods: `RankCore` in the process of a
rank (the driver, a serving rank), `WorkerCore` in a worker process.

Data. A Python value crosses as `data` (a pickle, protocol 5), `buffers` (its out-of-band buffers, any objects with a
contiguous buffer; copied once, 64-byte aligned, into the arena when large) and `refs` (the references found in it, in
the order in which the pickle numbers them). It comes back as a `Value`.

Every blocking call releases the GIL and is interrupted by signals (KeyboardInterrupt).
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

class Ref:
    """A reference to an object or an actor; counted by the runtime, given up when it is destroyed. Two are equal (and
    hash alike) when they refer to the same thing, however each was come by. ObjectRef is a subclass: what the functions
    at the end of this file give out."""

    def __new__(cls, ref: Ref, /) -> Self:
        """Another one to the same thing."""
    @property
    def _ref(self) -> Self:
        """Itself."""
    @property
    def id(self) -> str:
        """What it refers to: hexadecimal, unique in the job, the same in every process."""
    @property
    def owner(self) -> int:
        """The rank that owns it: where the actor was created, the object put or its task submitted."""
    @property
    def error(self) -> "Error | None":
        """How it failed, once it is ready and has failed. Never fetches the value. In a worker: as far as this process
        knows; after wait() or watch() said that it is ready, it does."""

    @property
    def ready(self) -> bool:
        """True when get would return at once. In a worker: when this process knows that it is."""

    @property
    def of_actor_call(self) -> bool:
        """A call of an actor makes it that this process made (in a worker) or one of this rank (in its own); false when it is
        known here to be over."""

class Value:
    """A value as it lies in the arena or in a message; read-only. Lives as long as any view of `buffers`."""

    @property
    def data(self) -> memoryview: ...
    @property
    def buffers(self) -> list[memoryview]:
        """Read-only views, in order, each keeping the value in place."""
    @property
    def refs(self) -> list[Ref]:
        """Those in it, as ObjectRef; the same list every time, not to be changed."""

class Error:
    """How a task or call failed."""

    code: str  # an Errc by name: "task_failed", "actor_died", "worker_lost", "unschedulable", "object_lost", ...
    message: str
    type: str  # the exception's type name, empty for the runtime's own errors
    rank: int  # -1 when unknown
    host: str
    task: str
    payload: bytes  # what fail() was given (a pickled exception), or empty

class NativeError(RuntimeError):
    """The runtime refused a call. `code` is an Errc by name."""

    code: str

class Options:
    """How a task or actor is placed and what happens when its process dies. All writable attributes."""

    num_cpus: float  # tasks 1, actors 0 unless set
    num_gpus: float
    memory: int
    resources: dict[str, float]
    spread: bool
    rank: int  # -1: no affinity
    node: str  # "": no affinity; a node id as in ranks()
    soft: bool
    labels: list[tuple[str, bool, tuple[str, ...]]]  # as in create_group(), of its rank; not with `group`
    group: Group | None
    bundle: int  # -1: any
    max_retries: int  # tasks: runs again when its worker or rank died; -1 without limit
    name: str  # actors: "" = none
    detached: bool
    max_restarts: int  # actors; -1 without limit
    max_task_retries: int  # actors
    env_key: str  # tasks: only workers started for the same key run it; "" = plain workers
    env: str  # actors, and tasks with env_key: JSON handed to the worker process when it starts

class Group:
    """A placement group; removed when the last copy is gone, or by remove()."""

    def ready(self) -> Ref: ...
    def remove(self) -> None: ...
    @property
    def id(self) -> str: ...

class Task:
    """One piece of work for this worker process."""

    kind: str  # "task", "create" (an actor's constructor), "call", or "cancel" (then only `token` counts)
    token: int
    meta: bytes  # as given to submit/create_actor/call
    args: Value
    # `args.refs` has None for the first `deps`: those come resolved.
    deps: list[Value | Error]  # the first `deps` references of the arguments, resolved (never an Error for calls/tasks: those fail before)
    returns: int
    attempt: int  # 0 the first time
    streaming: bool  # results go out by yield_item(); finish() with no results ends the stream
    gpus: list[int]  # the devices it holds, by their numbers on the rank; for "create" those of the actor

class _Core:
    rank: int
    size: int
    def submit(self, meta: bytes, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref], deps: int, returns: int,
               options: Options | None, name: str, streaming: int = -1) -> list[Ref]:
        """Runs a task in some worker of the job. The first `deps` of `refs` are resolved before it runs. `name` is for
        messages. One Ref per return (`returns` >= 1; for a task without result use 1).
        `streaming` >= 0: the task yields values; the list is [end, stream]: `end` becomes ready (or fails) with the
        task, `stream` is for stream_next(). So many items may wait unread before the producer is held (0: no limit).
        """
    def create_actor(self, meta: bytes, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref], deps: int,
                     options: Options, name: str) -> Ref: ...
    def call(self, actor: Ref, meta: bytes, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref], deps: int,
             returns: int, name: str, streaming: int = -1) -> list[Ref]:
        """Calls run in the order in which this process made them. `name` for messages."""
    def put(self, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref]) -> Ref: ...
    def get(self, refs: Sequence[Ref], timeout: float | None) -> list[Value | Error | None]:
        """One entry per reference, in order. Returns at once when one has failed; None stands for those that are not
        ready then. Errors: TimeoutError (builtin)."""
    def wait(self, refs: Sequence[Ref], count: int, timeout: float | None) -> list[bool]:
        """Which are ready, once `count` are or the time is up."""
    def watch(self, ref: Ref, token: int) -> None:
        """next_watched() will return the token once, when the reference is ready."""
    def next_watched(self) -> list[int]:
        """Blocks until watched references became ready. Empty when the runtime ends."""
    def stream_next(self, stream: Ref) -> Ref:
        """The next item, in order; ready when it was yielded. After the last item it fails with code "stream_end", or
        with the task's own error. Never blocks. By one consumer."""
    def kill(self, actor: Ref, no_restart: bool) -> None: ...
    def find_actor(self, name: str) -> Ref | None: ...
    def cancel(self, ref: Ref, force: bool, recursive: bool) -> None: ...
    def actor_rank(self, actor: Ref) -> int: ...
    def identify(self, ref: Ref) -> tuple[int, int]:
        """(owner's rank, index): names the object in the whole job. Blocks for a moment."""
    def export(self, key: bytes, blob: bytes) -> None:
        """Makes a pickled function or class known under its hash (16 bytes) to whoever gets `(rank, key)`."""
    def imported(self, rank: int, key: bytes) -> bytes:
        """What export() gave on that rank. Blocks. Errors: NativeError not_found, peer_lost."""
    def create_group(self, strategy: str, bundles: Sequence[dict[str, float]],
                     labels: Sequence[Sequence[tuple[str, bool, Sequence[str]]]] = ()) -> Group:
        """`labels`: empty, or per bundle (label, whether it is wanted, values; none: any) of its rank."""
    def group(self, id: str) -> Group:
        """The group with that id, made by whichever process of the job; does not keep it."""
    def ranks(self) -> list[dict[str, Any]]:
        """One per rank: rank, alive, node, host, pid, cpus, total (resources), available (resources, as last heard), labels."""
    def objects(self) -> dict[str, list[dict[str, Any]]]:
        """`objects`: what this rank's processes have references to: id, pid, type, size, task_status, reference_type, name.
        `tasks`: its calls that have not begun: key, name, state, type."""

def watch_launcher() -> bool:
    """Ends this process when its launcher is gone, from now on. False: there is no launcher to see."""

class RankCore(_Core):
    def __init__(self, *, threads: int = 0, arena_bytes: int = 0, gpus: float = -1, resources: dict[str, float] = {},
                 labels: dict[str, str] = {}, zygote_fd: int, zygote_pid: int, prestart: int = -1) -> None:
        """Joins the job (collective). `zygote_fd` is the rank's end of the socket to the template process."""
    def serve(self) -> None:
        """Ranks other than 0: blocks until rank 0 ends the job."""
    def stop(self) -> None: ...
    def next_logs(self) -> list[tuple[int, int, str, str]]:
        """Blocks until workers wrote whole lines: (pid, 1 stdout | 2 stderr, label, line without newline). Empty at the end."""

class WorkerCore(_Core):
    def __init__(self, command: bytes) -> None:
        """`command`: what the rank told the template process for this worker."""
    worker_id: int
    env: str
    running: int  # token of what the main thread runs
    current: Any  # the work that was entered last
    wrote: bool  # what runs wrote to a standard stream: `end_output` is called when it is over
    def set_hooks(self, enter: Callable, deliver: Callable, failed: Callable, end_output: Callable) -> None: ...
    def add_plain(self, meta: bytes, work: Any, function: Callable, name: str) -> None:
        """Calls with that meta and plain arguments run inside of next()."""
    def set_records(self, records: Records | None, kind: int) -> None: ...
    def next(self) -> Task | None:
        """The next piece of work; None: end this process. Only by the main loop's thread."""
    # For a main loop that is an event loop:
    def open_bell(self) -> None:
        """To be called once before wait_in_loop()."""
    def wait_in_loop(self, descriptor: int, timeout: float | None) -> bool:
        """Until there is work to take(), the process is told to leave, the descriptor is ready to read, or the timeout (s).
        True: it may be ready."""
    def take(self) -> Task | None:
        """The next piece of work that has come already, plain or not; None: there is none."""
    def told_to_leave(self) -> bool: ...
    def finish(self, token: int, results: Sequence[tuple[bytes, Sequence[Any], Sequence[Ref]]]) -> None: ...
    def fail(self, token: int, message: str, type: str, payload: bytes) -> None: ...
    def yield_item(self, token: int, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref]) -> None:
        """Hands out the next value of a streaming task; blocks while too many wait unread."""
    def actor(self) -> Ref | None:
        """A new reference to the actor that this process is; None in a task worker."""
    def exit_actor(self) -> None:
        """The actor ends after the present call: no restart; calls that wait fail with actor_died."""
    @property
    def cancelled(self) -> int:
        """The token of the call that somebody wants cancelled last, 0 when none. Set before SIGINT arrives."""
    def set_label(self, label: str) -> None:
        """What this process's output is prefixed with."""

# C++ functions and actor classes of libraries, by name. They run in ranks; all references are resolved first.
# Errors: ValueError for a name that is not there.
def cpp_load(path: str) -> None:
    """Loads a library, once. Errors: RuntimeError."""
def cpp_functions() -> list[str]: ...
def cpp_actors() -> list[str]: ...
def cpp_signature(name: str) -> tuple[str, str, int]:
    """A function's library ("": the program), its signature, and how many arguments it takes."""
def cpp_class(name: str) -> tuple[str, str, int, dict[str, tuple[str, int]]]:
    """Its library, the constructor's signature and number of arguments, and those of the methods by name."""
def cpp_submit(core: _Core, library: str, name: str, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref],
               options: Options | None) -> Ref: ...
def cpp_create(core: _Core, library: str, name: str, data: bytes, buffers: Sequence[Any], refs: Sequence[Ref], options: Options,
               max_concurrency: int) -> Ref: ...
def cpp_call(core: _Core, actor: Ref, method: str, data: bytes, buffers: Sequence[Any],
             refs: Sequence[Ref]) -> Ref: ...

# The template process ("zygote"). The rank's Python makes a SOCK_SEQPACKET socket pair, starts trireme._zygote.main()
# in an interpreter of its own with one end, and gives the other to RankCore. Packets:
#   zygote -> rank   b"R"                                            ready: imports are done
#   rank   -> zygote b"F" + command                                  fork a worker
#   zygote -> rank   struct "<cIii": b"S", worker id, pid, 0         forked
#   zygote -> rank   struct "<cIii": b"D", worker id, pid, status    ended; status as of waitpid
# `command` is JSON: worker (id), rank, rank_pid, out_fd, err_fd (pipe ends open in the rank, for the child to open through
# /proc/<rank_pid>/fd/<n>), cpus (list to pin to, may be empty), env (Options.env: a JSON text, "" for a plain worker), and
# more keys that only WorkerCore reads. End of file on the socket: the rank is gone; kill the workers and leave.

def become_worker(parent: int, rank_pid: int, out_fd: int, err_fd: int, /) -> bool:
    """In a process that `parent` (a pid) forked: it ends with its parent, its output goes to the rank's pipes, and it has a
    session of its own. False: the parent has ended already. Errors: OSError."""

# The paths that programs take most. What they leave to the package is said by what they return.

class Caller:
    """What RemoteFunction and ActorMethod call with."""

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """A call with plain arguments (atoms, and lists, tuples and dicts of them), as armed; else `self._remote(args, kwargs)`."""
    def _arm(
        self, session: int, meta: bytes, name: str, options: Options | None, target: Ref | None, refs: Sequence[Ref], least: int,
        most: int, /,
    ) -> None: ...  # fmt: skip

class Records:
    """A ring of records of tasks in writable memory: see python/native/records.hpp for the layout."""

    def __init__(self, memory: Any) -> None: ...
    def begin(self, kind: int, name: str, attempt: int, token: int) -> int: ...
    def end(self, number: int, error: str = "") -> None: ...

def load_ref(index: int, /) -> Any:
    """ObjectRef of the reference with that number in the value being unpickled. Pickles name it as the package's.
    Errors: pickle.UnpicklingError outside of such a value, IndexError."""
def load_references(data: Any, refs: list[Any], /) -> list[Any] | None:
    """The value of a pickle that is a list of these references (ObjectRef) and nothing else. None for any other."""
def _loading_ref(index: int, /) -> Ref: ...
def _set_loading(refs: Sequence[Ref] | None, /) -> Sequence[Ref] | None:
    """The references of what this thread unpickles from now on. Gives those of before."""
def get_one(ref: Ref, timeout: float | None, /) -> Any: ...
def get_many(refs: list[Any], timeout: float | None, /) -> list[Any] | None:
    """None: it is no list of ObjectRef, or this process is a worker."""

def split(refs: Any, count: int, timeout: float | None, /) -> tuple[list[Any], list[Any]] | None:
    """What wait() returns. None: it is no list of ObjectRef that differ, or this process is a worker that would have to wait."""

def put_plain(value: Any, /) -> Ref | None:
    """None: it is no atom."""

def set_package(
    state: dict[str, Any], object_ref: type, dumps: Callable, loads: Callable, got_other: Callable, got_many_other: Callable, /
) -> None: ...
def dump_plain(value: Any, /) -> bytes | None: ...
def load_plain(pickle: bytes, /) -> Any: ...
