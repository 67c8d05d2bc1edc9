"""init(job_config=...): what each of its settings does."""

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("code")
    (made / "only_there.py").write_text("VALUE = 7\n")
    return made


@pytest.fixture(scope="module")
def runtime(no_leaks, folder):
    import trireme
    from trireme.job_config import JobConfig

    config = JobConfig(
        code_search_path=[str(folder)],
        runtime_env={"env_vars": {"OF_THE_CONFIG": "1"}},
        metadata={"who": "me"},
        ray_namespace="of the config",
        default_actor_lifetime="detached",
    )
    config.set_metadata("why", "a test")
    trireme.init(job_config=config)
    yield trireme
    trireme.shutdown()


def test_workers_find_the_code_and_have_the_environment(runtime):
    @runtime.remote
    def there():
        import os

        import only_there

        return only_there.VALUE, os.environ["OF_THE_CONFIG"]

    assert runtime.get([there.remote() for _ in range(4)], timeout=60) == [(7, "1")] * 4


def test_the_namespace(runtime):
    assert runtime.get_runtime_context().namespace == "of the config"


def test_what_the_state_api_tells(runtime):
    from trireme.util import state

    (job,) = state.list_jobs()
    assert job.metadata == {"who": "me", "why": "a test"}


def test_actors_are_detached_unless_they_say_otherwise(runtime):
    @runtime.remote(num_cpus=0)
    class Named:
        def one(self):
            return 1

    @runtime.remote
    def make(cls):
        import trireme

        trireme.get(cls.options(name="stays").remote().one.remote())
        trireme.get(cls.options(name="goes", lifetime="non_detached").remote().one.remote())

    runtime.get(make.remote(Named), timeout=60)
    from conftest import eventually

    def gone(name):
        try:
            runtime.get_actor(name)
        except ValueError:
            return True
        return False

    eventually(lambda: gone("goes"))
    stays = runtime.get_actor("stays")
    assert runtime.get(stays.one.remote(), timeout=60) == 1
    runtime.kill(stays)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jvm_options": ["-Xmx1g"]}, ValueError, "Java"),
        ({"code_search_path": "/tmp"}, TypeError, "list of folders"),
        ({"metadata": {"a": 1}}, TypeError, "texts"),
        ({"default_actor_lifetime": "forever"}, ValueError, "detached"),
    ],
)
def test_settings_that_are_none(runtime, arguments, error, message):
    from trireme.job_config import JobConfig

    with pytest.raises(error, match=message):
        JobConfig(**arguments)
    with pytest.raises(error, match=message):
        JobConfig.from_json(arguments)


def test_an_environment_is_looked_at_when_asked(runtime):
    from trireme.job_config import JobConfig

    config = JobConfig()
    config.set_runtime_env({"env_vars": 1})
    with pytest.raises(TypeError, match="env_vars"):
        config.set_runtime_env({"env_vars": 1}, validate=True)


PROGRAM = """
import os
import trireme
from trireme.job_config import JobConfig

@trireme.remote
def task():
    return os.environ.get("A"), os.environ.get("B")

try:
    trireme.init(job_config={"ray_namespace": "x"})
except TypeError as error:
    assert "JobConfig" in str(error)
config = JobConfig(runtime_env={"env_vars": {"A": "config"}}, ray_namespace="config")
trireme.init(namespace="init", runtime_env={"env_vars": {"B": "init"}}, job_config=config)
print(trireme.get_runtime_context().namespace, trireme.get(task.remote()))
"""


def test_arguments_of_init_go_first(tmp_path):
    import os
    import subprocess
    import sys

    (tmp_path / "program.py").write_text(PROGRAM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_", "TRIREME_LOCAL_RANK"))}
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], env=kept, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.splitlines()[-1] == "init (None, 'init')"
