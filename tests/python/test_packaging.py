"""The package as it is installed: metadata that agrees, types, and what a wheel holds, in an environment of its own."""

# ctest: one rank
# ctest: timeout 400

import ast
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "trireme"


def project():
    text = (ROOT / "pyproject.toml").read_text()
    return dict(re.findall(r'^(name|version|readme) = "(.*)"$', text, re.MULTILINE))


def test_versions_agree():
    cmake = re.search(r"project\(trireme VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    import trireme

    assert project()["version"] == cmake == trireme.__version__


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_native.pyi").exists()


def test_what_the_project_file_names_exists():
    assert (ROOT / project()["readme"]).exists()


def test_public_functions_of_the_utilities_have_hints():
    missing = []
    for path in sorted((PACKAGE / "util").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
                arguments = [
                    a
                    for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                    if a.arg not in ("self", "cls")
                ]
                if node.returns is None or any(a.annotation is None for a in arguments):
                    missing.append(f"{path.name}:{node.lineno} {node.name}")
    assert not missing


def test_stubs_name_what_the_extension_has():
    from trireme import _native

    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    classes = [node for node in stub.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert classes
    for cls in classes:
        real = getattr(_native, cls.name)
        for node in cls.body:
            if isinstance(node, ast.FunctionDef):
                assert hasattr(real, node.name), f"{cls.name}.{node.name} is in the stub and not in the extension"


PROGRAM = """
import os
import sys

import numpy as np

import trireme
import trireme._collective
from trireme import cross_language


@trireme.remote
def double(array):
    return 2 * array


@trireme.remote
class Member:
    def total(self, rank, value):
        from trireme.util import collective

        collective.init_collective_group(2, rank, group_name="installed")
        array = np.full(8, value)
        collective.allreduce(array, group_name="installed")
        return array[0]


trireme.init()
assert trireme.get(double.remote(np.arange(3.0))).tolist() == [0, 2, 4]
members = [Member.remote() for _ in range(2)]
totals = trireme.get([member.total.remote(rank, rank + 1.0) for rank, member in enumerate(members)])
assert totals == [3, 3], totals
if len(sys.argv) > 1:
    trireme.load_library(sys.argv[1])
    diffuse = cross_language.cpp_function("diffuse")
    assert trireme.get(diffuse.remote(np.full((8, 8), 1.0), 0.2)).shape == (8, 8)
files = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
for file in sorted(files):
    if os.path.basename(file).startswith(("libtrireme", "_native", "_collective")):
        print("loaded", file)
print("package", os.path.dirname(trireme.__file__))
print("ranks", len(trireme.nodes()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The bin folder of an environment with what a wheel holds, by the wheel's own install rules, and without an index."""
    build = os.environ.get("TRIREME_BUILD_DIR")
    assert build, "TRIREME_BUILD_DIR names the build folder whose component `python` is installed"
    env = tmp_path_factory.mktemp("installed") / "env"
    venv.create(env, system_site_packages=True, with_pip=False)
    (site,) = env.glob("lib/python*/site-packages")
    shutil.copytree(PACKAGE, site / "trireme", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    command = ["cmake", "--install", build, "--component", "python", "--prefix", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    script = re.search(r'^trireme = "(.*):(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    command = env / "bin" / "trireme"
    command.write_text(
        f"#!{env / 'bin' / 'python'} -I\nimport sys\nfrom {script[1]} import {script[2]}\nsys.exit({script[2]}())\n"
    )
    command.chmod(0o755)
    return command


def run_installed(*command, **more):
    hidden = ("PYTHONPATH", "TRIREME_BUILD_DIR", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False, cwd="/", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_command_answers(installed):
    assert run_installed(installed, "--version").strip() == project()["version"]
    assert "run a script on the ranks" in run_installed(installed, "--help")


def test_everything_compiled_and_typed_is_installed(installed):
    (package,) = installed.parents[1].glob("lib/python*/site-packages/trireme")
    assert (package / "py.typed").exists() and (package / "_native.pyi").exists() and (package / "_collective.pyi").exists()
    release = ".".join(project()["version"].split(".")[:2])
    libraries = {path.name.partition(".cpython")[0] for path in package.iterdir() if ".so" in path.name}
    libraries.discard("_nccl")  # where NCCL was found
    assert libraries == {"_native", "_collective", f"libtrireme.so.{release}", f"libtrireme_python.so.{release}"}


@pytest.mark.parametrize("ranks", [1, 2])
def test_programs_run_from_what_is_installed_alone(installed, tmp_path, ranks):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launcher = []
    if ranks > 1:
        mpirun = shutil.which("mpirun")
        assert mpirun, "mpirun is missing"
        launcher = [mpirun, "-n", str(ranks), "--bind-to", "none", "--oversubscribe", "--timeout", "100"]
        launcher += [ROOT / "tests" / "support" / "rank_apart.sh"]
    field = Path(os.environ["TRIREME_BUILD_DIR"]) / "examples" / "cross" / "libfield.so"
    lines = run_installed(*launcher, installed, "run", program, field).splitlines()
    (package,) = installed.parents[1].glob("lib/python*/site-packages/trireme")
    loaded = [line.partition(" ")[2] for line in lines if line.startswith("loaded ")]
    assert len(loaded) == 4, lines
    assert all(Path(file).parent == package for file in loaded), loaded
    assert f"package {package}" in lines
    assert f"ranks {ranks}" in lines


def test_the_examples_run_from_what_is_installed(installed):
    examples = ROOT / "examples"
    field = Path(os.environ["TRIREME_BUILD_DIR"]) / "examples" / "cross" / "libfield.so"
    assert "pi = 3.14159" in run_installed(installed, "run", examples / "python" / "pi.py")
    assert "(5, 25)" in run_installed(installed, "run", "--ray", examples / "python" / "ray_program.py")
    assert run_installed(installed, "run", examples / "cross" / "use_field.py", field)


def test_the_project_file_builds_targets_that_exist():
    """scikit-build-core, which needs an index, hands these names to CMake (scripts/check_wheel.sh does that part)."""
    text = (ROOT / "pyproject.toml").read_text()
    targets = re.search(r"^build\.targets = \[(.*)\]$", text, re.MULTILINE).group(1)
    cmake = "".join(path.read_text() for path in (ROOT / "python").rglob("CMakeLists.txt"))
    for target in re.findall(r'"([^"]+)"', targets):
        assert re.search(rf"add_module\({target}\b", cmake), target
    (component,) = re.findall(r'^install\.components = \["(.*)"\]$', text, re.MULTILINE)
    assert f"COMPONENT {component} " in cmake
