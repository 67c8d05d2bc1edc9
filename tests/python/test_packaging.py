"""The package as it is installed: metadata that agrees, types, a wheel that works in an environment of its own."""

# ctest: one rank
# ctest: timeout 1200

import ast
import importlib.util
import os
import re
import subprocess
import sys
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


@pytest.mark.skipif(importlib.util.find_spec("scikit_build_core") is None, reason="scikit-build-core is missing")
@pytest.mark.skipif(importlib.util.find_spec("pybind11") is None, reason="pybind11's Python package is missing")
def test_the_wheel_works_in_an_environment_of_its_own(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        timeout=1100,
    )
    (wheel,) = tmp_path.glob("trireme-*.whl")
    venv.create(tmp_path / "env", system_site_packages=True, with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True, timeout=300
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import trireme\nprint(trireme.__file__)\nprint(trireme.get(trireme.remote(pow).remote(2, 5)))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "trireme", "run", program],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    where, value = done.stdout.splitlines()
    assert str(tmp_path) in where
    assert value == "32"
