"""init(logging_config=...): what loggers write in the driver, in tasks and in actors, and whose lines they are."""

import io
import json
import logging
import os
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture(scope="module")
def runtime(no_leaks):
    import trireme

    root = logging.getLogger()
    before = root.level, list(root.handlers)
    config = trireme.LoggingConfig(encoding="JSON", log_level="INFO", additional_log_standard_attrs=["name", "funcName"])
    trireme.init(logging_config=config)
    yield trireme
    trireme.shutdown()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def written(log):
    """What `log()` has the root logger write, line by line."""
    (handler,) = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler and h.filters]
    stream = handler.setStream(io.StringIO())
    try:
        log()
        return [json.loads(line) for line in handler.stream.getvalue().splitlines()]
    finally:
        handler.setStream(stream)


def say(**extra):
    logger = logging.getLogger("some.module")
    logger.debug("not shown")
    logger.info("seen %s", 3, extra=extra)


def where(line):
    return {name: value for name, value in line.items() if name.endswith("_id")}


def test_records_of_the_driver(runtime):
    (line,) = written(lambda: say(epoch=7))
    context = runtime.get_runtime_context()
    assert line["message"] == "seen 3"
    assert (line["levelname"], line["name"], line["funcName"], line["process"]) == ("INFO", "some.module", "say", os.getpid())
    assert (line["filename"], line["epoch"]) == ("test_core_logging.py", 7)
    assert where(line) == {
        "job_id": context.get_job_id(),
        "worker_id": context.get_worker_id(),
        "node_id": context.get_node_id(),
    }
    assert abs(line["timestamp_ns"] - __import__("time").time_ns()) < 60e9


def test_records_of_tasks_on_every_rank(runtime):
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @runtime.remote(num_cpus=0)
    def task(written, say):
        import trireme

        context = trireme.get_runtime_context()
        there = {
            "job_id": context.get_job_id(),
            "worker_id": context.get_worker_id(),
            "node_id": context.get_node_id(),
            "task_id": context.get_task_id(),
        }
        return written(say), there

    for node in runtime.nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"])
        (line,), context = runtime.get(task.options(scheduling_strategy=there).remote(written, say), timeout=60)
        assert where(line) == context
        assert context["node_id"] == node["NodeID"]
        assert line["task_name"].endswith("task")
        assert line["task_func_name"] == "test_core_logging.test_records_of_tasks_on_every_rank.<locals>.task"
        assert "actor_id" not in line


@pytest.mark.parametrize("kind", ["plain", "threads", "async"])
def test_records_of_actors(runtime, kind):
    class Base:
        def plain(self, written, say):
            return self.records(written, say)

        threads = plain

        def records(self, written, say):
            import trireme

            return written(say), trireme.get_runtime_context().get_task_id()

    class Async(Base):
        async def plain(self, written, say):
            return self.records(written, say)

    cls = Async if kind == "async" else Base
    options = {"name": f"of {kind}", "num_cpus": 0, "max_concurrency": 1 if kind == "plain" else 4}
    actor = runtime.remote(cls).options(**options).remote()
    for _ in range(2):
        (line,), task = runtime.get(actor.plain.remote(written, say), timeout=60)
        assert line["task_id"] == task
        assert line["actor_id"] == actor._actor_id.hex()
        assert line["actor_name"] == f"of {kind}"
        assert line["task_name"] == f"{cls.__name__}.plain"
        assert line["task_func_name"].endswith(f"{cls.__name__}.plain")


def test_exceptions_are_in_the_record(runtime):
    def fails():
        try:
            raise KeyError("gone")
        except KeyError:
            logging.getLogger("x").exception("it failed")

    @runtime.remote
    def task(written, fails):
        return written(fails)

    for line in (*written(fails), *runtime.get(task.remote(written, fails), timeout=60)):
        assert line["message"] == "it failed"
        assert line["exc_text"].splitlines()[0].startswith("Traceback")
        assert line["exc_text"].endswith("KeyError: 'gone'")


def test_what_is_no_json_becomes_a_text(runtime):
    (line,) = written(lambda: say(ref=object))
    assert line["ref"] == "<class 'object'>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "XML"}, "TEXT, JSON"),
        ({"log_level": "LOUD"}, "LOUD"),
        ({"additional_log_standard_attrs": ["name", "nmae"]}, "'nmae'"),
    ],
)
def test_a_configuration_that_is_none(runtime, arguments, message):
    with pytest.raises(ValueError, match=message):
        runtime.LoggingConfig(**arguments)


PROGRAM = """
    import logging
    import sys

    import trireme

    @trireme.remote
    def task():
        logging.getLogger("mine").warning("from the task")
        logging.getLogger("mine").info("not shown")

    try:
        trireme.init(logging_config="JSON")
    except TypeError as error:
        assert "LoggingConfig" in str(error)
    trireme.init(logging_config=trireme.LoggingConfig(log_level="WARNING"))
    trireme.get(task.remote())
    logging.getLogger("mine").info("not shown")
    logging.getLogger("mine").warning("from the driver")
    logging.getLogger("trireme.tune").warning("from a library")
    trireme.shutdown()
    logging.getLogger("mine").warning("afterwards")
    trireme.init(logging_config=trireme.LoggingConfig(log_level="ERROR"))
    logging.getLogger("mine").warning("not shown")
    logging.getLogger("mine").error("once")
"""


def test_lines_of_text_arrive_at_the_terminal(tmp_path):
    program = tmp_path / "a_program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "TRIREME_LOCAL_RANK"))}
    done = subprocess.run([sys.executable, program], env=kept, capture_output=True, text=True, timeout=100, check=True)
    lines = done.stderr.splitlines()
    assert "not shown" not in done.stderr
    (task,) = [line for line in lines if "from the task" in line]
    assert "WARNING a_program.py:9 -- from the task job_id=" in task
    assert " task_name=task " in task
    assert " task_func_name=a_program.task " in task
    (driver,) = [line for line in lines if "from the driver" in line]
    assert "WARNING a_program.py:19 -- from the driver job_id=" in driver
    assert "task_id" not in driver
    assert len([line for line in lines if "from a library" in line]) == 1
    (after,) = [line for line in lines if "afterwards" in line]
    assert "job_id" not in after
    assert len([line for line in lines if "once" in line]) == 1
