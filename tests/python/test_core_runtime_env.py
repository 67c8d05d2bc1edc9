"""runtime_env: variables, folders, modules, another interpreter, set-up hooks, and what is wrong in one."""

from __future__ import annotations

import os
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def runtime(no_leaks):
    """The runtime with an environment for all workers."""
    import trireme

    trireme.init(runtime_env={"env_vars": {"JOB_WIDE": "yes", "BOTH": "job"}})
    yield trireme
    trireme.shutdown()


def test_env_vars_of_the_job_and_of_tasks_and_actors(runtime):
    @runtime.remote
    def read(*names):
        return [os.environ.get(name) for name in names]

    names = ("JOB_WIDE", "BOTH", "OWN")
    assert runtime.get(read.remote(*names), timeout=60) == ["yes", "job", None]
    own = read.options(runtime_env={"env_vars": {"OWN": "1", "BOTH": "task"}})
    assert runtime.get(own.remote(*names), timeout=60) == ["yes", "task", "1"]
    assert runtime.get(read.remote(*names), timeout=60) == ["yes", "job", None]

    @runtime.remote
    class A:
        def read(self):
            return os.environ.get("OWN"), runtime.get(read.remote("OWN", "JOB_WIDE"))

    actor = A.options(runtime_env={"env_vars": {"OWN": "2"}}).remote()
    # What it starts inherits its environment.
    assert runtime.get(actor.read.remote(), timeout=60) == ("2", ["2", "yes"])
    assert "OWN" not in os.environ


def test_launchers_variables_do_not_reach_workers(runtime):
    @runtime.remote
    def seen():
        return [name for name in os.environ if name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_STEP"))]

    assert runtime.get(seen.remote(), timeout=60) == []


def test_working_dir(runtime, tmp_path):
    (tmp_path / "helper_in_working_dir.py").write_text("VALUE = 17\n")
    (tmp_path / "data.txt").write_text("found")

    @runtime.remote(runtime_env={"working_dir": str(tmp_path)})
    def use():
        import helper_in_working_dir

        with open("data.txt") as file:
            return helper_in_working_dir.VALUE, file.read(), os.getcwd()

    assert runtime.get(use.remote(), timeout=60) == (17, "found", str(tmp_path))


def test_working_dir_from_a_zip_file(runtime, tmp_path):
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_helper.py", "VALUE = 18\n")
        file.writestr("data.txt", "zipped")

    @runtime.remote(runtime_env={"working_dir": str(archive)})
    def use():
        import zipped_helper

        with open("data.txt") as file:
            return zipped_helper.VALUE, file.read()

    assert runtime.get(use.remote(), timeout=60) == (18, "zipped")


def test_py_modules(runtime, tmp_path):
    package = tmp_path / "own_package_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 19\n")

    @runtime.remote(runtime_env={"py_modules": [str(package)]})
    def use():
        import own_package_of_test

        return own_package_of_test.VALUE

    assert runtime.get(use.remote(), timeout=60) == 19


def test_set_up_hook(runtime):
    def hook():
        os.environ["HOOK_RAN"] = "once"

    @runtime.remote(runtime_env={"worker_process_setup_hook": hook})
    def seen():
        return os.environ.get("HOOK_RAN")

    assert runtime.get(seen.remote(), timeout=60) == "once"


def test_another_interpreter(runtime):
    @runtime.remote(runtime_env={"py_executable": f"{sys.executable} -X utf8 -O"})
    def flags():
        return sys.flags.optimize

    assert runtime.get(flags.remote(), timeout=120) == 1

    @runtime.remote(runtime_env={"py_executable": f"{sys.executable} -O"})
    class A:
        def flags(self):
            return sys.flags.optimize

    assert runtime.get(A.remote().flags.remote(), timeout=120) == 1


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"py_executable": "/no/such/python"}, "/no/such/python"),
        ({"worker_process_setup_hook": "no_such_module.hook"}, "no_such_module"),
    ],
)
def test_an_environment_that_cannot_be_made(runtime, env, says):
    @runtime.remote(runtime_env=env, max_retries=0)
    def f():
        pass

    with pytest.raises(runtime.exceptions.RuntimeEnvSetupError, match=says):
        runtime.get(f.remote(), timeout=60)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"env_var": {}}, "env_var"),
        ({"env_vars": {"A": 1}}, "env_vars"),
        ({"working_dir": "/no/such/folder"}, "/no/such/folder"),
        ({"working_dir": "s3://bucket/x.zip"}, "s3://bucket"),
        ({"py_modules": "x"}, "py_modules"),
        ({"pip": 3}, "pip"),
        ({"worker_process_setup_hook": 3}, "hook"),
    ],
)
def test_wrong_environments_are_refused_where_they_are_used(runtime, env, says):
    f = runtime.remote(lambda: None)
    with pytest.raises((TypeError, ValueError), match=says):
        f.options(runtime_env=env).remote()
    with pytest.raises((TypeError, ValueError), match=says):
        runtime.runtime_env.RuntimeEnv(**env)


def test_the_context_tells_the_environment(runtime):
    assert runtime.get_runtime_context().runtime_env == {"env_vars": {"JOB_WIDE": "yes", "BOTH": "job"}}


def make_wheel(folder, name, value):
    """A wheel with one module, as a build backend would write it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": f"VALUE = {value!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def test_pip_installs_from_a_folder_of_wheels(runtime, tmp_path):
    pytest.importorskip("pip")
    make_wheel(tmp_path, "of_a_wheel", 23)
    local = ["--no-index", "--find-links", str(tmp_path)]

    @runtime.remote(runtime_env={"pip": [*local, "of_a_wheel==1.0"]})
    def use():
        import of_a_wheel

        return of_a_wheel.VALUE, os.getpid()

    (first, pid), (second, _) = runtime.get([use.remote(), use.remote()], timeout=120)
    assert first == second == 23
    assert pid != os.getpid()

    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# from here only\n--no-index\n--find-links={tmp_path}\nof_a_wheel\n")

    @runtime.remote(runtime_env={"pip": {"packages": str(requirements)}})
    class User:
        def value(self):
            import of_a_wheel

            return of_a_wheel.VALUE

    assert runtime.get(User.remote().value.remote(), timeout=120) == 23

    @runtime.remote
    def plain():
        import of_a_wheel  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        runtime.get(plain.remote(), timeout=60)

    @runtime.remote(runtime_env={"pip": [*local, "of_no_wheel"]})
    def never():
        return 1

    with pytest.raises(runtime.exceptions.RuntimeEnvSetupError, match="of_no_wheel"):
        runtime.get(never.remote(), timeout=120)
