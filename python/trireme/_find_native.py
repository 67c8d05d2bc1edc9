"""Where `trireme._native` is: beside the package in a wheel, in the build folder when the package runs from its sources."""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES

_SUFFIX = EXTENSION_SUFFIXES[0]


def search_path(package: list[str]) -> list[str]:
    """The package's path with the folder of the newest built module added, when there is none in the package itself.

    TRIREME_BUILD_DIR names a build folder to take it from.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    name = f"_native{_SUFFIX}"
    wanted = os.environ.get("TRIREME_BUILD_DIR")
    if wanted:
        return [*package, os.path.join(wanted, "python", "trireme")]
    if os.path.exists(os.path.join(here, name)):
        return list(package)
    root = os.path.dirname(os.path.dirname(here))
    build = os.path.join(root, "build")
    presets = os.listdir(build) if os.path.isdir(build) else []
    folders = [os.path.join(build, preset, "python", "trireme") for preset in presets]
    built = [folder for folder in folders if os.path.exists(os.path.join(folder, name))]
    if not built:
        return list(package)
    return [*package, max(built, key=lambda folder: os.path.getmtime(os.path.join(folder, name)))]
