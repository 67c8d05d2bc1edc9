#!/usr/bin/env python3
"""Fails on an #include that goes against the layers of docs/architecture.md.

Usage: check_layers.py [ROOT]       check the repository
       check_layers.py --self-test  check this script on made-up repositories
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# A folder includes only itself and what is listed for it.
BELOW: dict[str, tuple[str, ...]] = {
    "base": (),
    "transport": ("base",),
    "objstore": ("base", "transport"),
    "scheduler": ("base", "transport", "objstore"),
    "core": ("base", "transport", "objstore", "scheduler"),
}
BELOW["slurm"] = BELOW["ml"] = (*BELOW,)
BELOW["python"] = (*BELOW["ml"], "ml")
LAYERS = tuple(BELOW)
# Folders that may include every layer, and that no layer may include.
OUTSIDE = ("tests", "benchmarks", "tools")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def problem(path: Path, quoted: bool, target: str, root: Path) -> str | None:
    """What is wrong with `path` (relative to root) including `target`, or None."""
    source = path.parts[0]
    head = target.split("/")[0]
    if ".." in target.split("/"):
        return "goes through '..'; write it from the top of the repository"
    if target.startswith("trireme/ml/"):
        if source in LAYERS and source not in ("ml", "python"):
            return f"{source} is below ml, whose public header this is"
        return None
    if head == "trireme" and "/" in target:
        if source in LAYERS and "core" != source and "core" not in BELOW[source]:
            return f"{source} is below core, whose public header this is"
        return None
    if source == "examples":
        if head in LAYERS + OUTSIDE and "/" in target and (quoted or (root / target).is_file()):
            return "examples are written as a user would write them, with <trireme/...> only"
        return None
    if head in LAYERS and "/" in target:
        if source in LAYERS and head != source and head not in BELOW[source]:
            return f"{source} may include only {', '.join((*BELOW[source], source))}"
        return None
    if head in OUTSIDE and "/" in target and quoted:
        if source in LAYERS:
            return f"{source} may not include {head}"
        return None
    if quoted and source in LAYERS and not (root / target).is_file():
        if (root / path.parent / target).is_file():
            return "is written relative to the file; write it from the top of the repository"
    return None


def sources(root: Path) -> list[Path]:
    folders = [root / name for name in (*LAYERS, *OUTSIDE, "examples")]
    return sorted(
        path.relative_to(root)
        for folder in folders
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.suffix in (".hpp", ".cpp", ".h", ".cu", ".in") and path.is_file()
    )


def check(root: Path) -> list[str]:
    found = []
    files = sources(root)
    for path in files:
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if match and (text := problem(path, match[1] == '"', match[2], root)):
                found.append(f"{path}:{number}: #include {match[2]}: {text}")
    if not files:
        found.append(f"{root}: no sources found")
    return found


def self_test() -> None:
    """Every fixture is one file with one include, and whether it must be refused."""
    cases = [
        ("base/a.hpp", '"base/b.hpp"', False),
        ("base/a.hpp", '"transport/b.hpp"', True),
        ("base/a.hpp", "<transport/b.hpp>", True),
        ("transport/shm/a.cpp", '"objstore/b.hpp"', True),
        ("objstore/a.cpp", '"transport/b.hpp"', False),
        ("scheduler/a.cpp", '"core/b.hpp"', True),
        ("scheduler/a.cpp", "<trireme/b.hpp>", True),
        ("core/a.cpp", "<trireme/b.hpp>", False),
        ("core/a.cpp", '"tests/support/b.hpp"', True),
        ("core/a.cpp", '"../base/b.hpp"', True),
        ("core/include/trireme/a.hpp", '"base/b.hpp"', False),
        ("core/include/trireme/a.hpp", '"ml/b.hpp"', True),
        ("core/include/trireme/a.hpp", "<trireme/b.hpp>", False),
        ("core/include/trireme/a.hpp", "<vector>", False),
        ("examples/a.cpp", '"core/b.hpp"', True),
        ("ml/a.cpp", '"core/b.hpp"', False),
        ("ml/a.cpp", '"python/b.hpp"', True),
        ("ml/a.cpp", '"trireme/ml/b.hpp"', False),
        ("core/a.cpp", "<trireme/ml/b.hpp>", True),
        ("examples/a.cpp", "<trireme/ml/b.hpp>", False),
        ("tests/a.cpp", '"scheduler/b.hpp"', False),
    ]
    for file, include, refused in cases:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for layer in (*LAYERS, *OUTSIDE):
                (root / layer).mkdir()
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(f"// a\n#include {include}\n")
            run = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, check=False)
        expected = 1 if refused else 0
        if run.returncode != expected or (refused and f"{file}:2" not in run.stdout):
            sys.exit(f"{file} including {include}: expected status {expected}, got {run.returncode}: {run.stdout}")
    print(f"{len(cases)} cases behave as they should")


def main() -> int:
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = check(root)
    print("\n".join(found) or "no include goes against the layers")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
