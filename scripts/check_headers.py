#!/usr/bin/env python3
"""Fails on a header that does not compile on its own.

Usage: check_headers.py BUILD_DIR [ROOT]

A header whose .cpp includes it before anything else was proven by the build; the others are compiled here, each with the
command that BUILD_DIR/compile_commands.json has for a source that includes it, or else for its nearest neighbour. It goes
through ccache where there is one, so that a second run compiles only what changed.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDERS = ("base", "transport", "objstore", "scheduler", "core", "ml", "python", "benchmarks", "tests", "tools", "examples")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)


def flags_of(command: str) -> list[str]:
    """The compiler and its flags, without input, output and dependency files."""
    words = shlex.split(command)
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("-o", "-MF", "-MT", "-c"):
            skip = True  # the word after -c is the source
        elif not word.startswith("-M"):
            kept.append(word)
    return kept


def nearness(header: Path, source: Path, includes: set[str], root: Path) -> tuple[bool, int]:
    """Orders sources by how well their flags fit a header; the largest fits best."""
    names = {header.relative_to(root).as_posix(), "/".join(header.parts[-2:])}
    return bool(names & includes), len(Path(os.path.commonpath([header, source])).parts)


def proven_by_build(header: Path, root: Path) -> bool:
    source = header.with_suffix(".cpp")
    if not source.is_file():
        return False
    first = INCLUDE.search(source.read_text(encoding="utf-8"))
    return first is not None and (root / first[1]) == header


def main(build: Path, root: Path) -> int:
    commands = [
        (
            Path(entry["file"]),
            set(INCLUDE.findall(Path(entry["file"]).read_text(encoding="utf-8"))),
            flags_of(entry["command"]),
        )
        for entry in json.loads((build / "compile_commands.json").read_text())
        if entry["file"].endswith(".cpp") and Path(entry["file"]).is_file()
    ]
    ccache = shutil.which("ccache")
    launcher = [ccache] if ccache else []
    headers = [
        header
        for folder in FOLDERS
        if (root / folder).is_dir()
        for header in sorted((root / folder).rglob("*.hpp"))
        if not proven_by_build(header, root)
    ]

    def compile_alone(header: Path) -> str:
        flags = max(commands, key=lambda command: nearness(header, command[0], command[1], root))[2]
        source = build / "check_headers" / header.relative_to(root).with_suffix(".alone.cpp")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f'#include "{header}"\n')
        run = subprocess.run(
            # A folder that this build leaves out (benchmarks) has no command of its own: the public headers come along.
            [*launcher, *flags, *(f"-I{root / layer / 'include'}" for layer in ("core", "ml", "python")), f"-I{build / 'include'}", "-O0", "-w", "-c", str(source), "-o", str(source.with_suffix(".o"))],
            capture_output=True, text=True, check=False)
        return f"{header.relative_to(root)} does not stand alone:\n{run.stderr}" if run.returncode else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [text for text in pool.map(compile_alone, headers) if text]
    print("\n".join(problems) or f"{len(headers)} headers stand alone")
    return 1 if problems or not headers else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve() if len(sys.argv) > 2
                  else Path(__file__).resolve().parent.parent))
