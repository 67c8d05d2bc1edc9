"""The examples and the README's program, as a user runs them: alone and under mpirun."""

# ctest: one rank
# ctest: timeout 400

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "python"
EXPECTED = {
    "pi.py": r"{ranks} rank\(s\): pi = 3\.141592654",
    "streaming.py": r"8 blocks: mean [+-]0\.0\d, standard deviation 1\.00",
    "parameter_server.py": r"largest error of 10 weights: below 0\.01",
    "ray_program.py": r"\[0, 1, 4, 9, 16, 25\]\n\(5, 25\)",
}


def run(program, ranks, *options):
    command = [sys.executable, "-m", "trireme", "run", *options, str(program)]
    if ranks > 1:
        if shutil.which("mpirun") is None:
            pytest.skip("mpirun is missing")
        command = ["mpirun", "-n", str(ranks), "--bind-to", "none", "--oversubscribe", "--timeout", "120", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example(name, ranks):
    options = ["--ray"] if name == "ray_program.py" else []
    output = run(EXAMPLES / name, ranks, *options)
    assert re.fullmatch(EXPECTED[name].format(ranks=ranks), output.strip()), output


def test_an_example_runs_without_the_command_too():
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "pi.py")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 rank(s): pi = 3.141592654" in done.stdout


def test_the_program_in_the_readme_prints_what_it_says(tmp_path):
    text = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```.*?\n    \$ python \S+\n((?:    [^\n]*\n)+)", text, re.DOTALL)
    assert found, "README.md has no Python program followed by its output"
    program = tmp_path / "program.py"
    program.write_text(found.group(1))
    assert run(program, 1).strip() == found.group(2).strip()


def test_the_documentation_names_only_commands_that_exist():
    from trireme import _commands

    known = {path.stem for path in Path(_commands.__path__[0]).glob("[a-z]*.py")}
    for document in (ROOT / "docs" / "python.md", ROOT / "python" / "README.md"):
        used = set(re.findall(r"`trireme ([a-z]+)", document.read_text()))
        assert used <= known, f"{document.name}: {sorted(used - known)}"


@pytest.fixture(autouse=True)
def as_root(monkeypatch):
    """Allow Open MPI to run as root, as the machine of a test often is."""
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]))
