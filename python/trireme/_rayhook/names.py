"""Where the modules of Ray are that do not have the same name here."""

from __future__ import annotations

#: The version whose API this is; programs compare it before they use newer names.
API_VERSION = "2.55.0"

#: Ray's module to ours. All others have the same name below `trireme`.
MODULES = {
    "ray._raylet": "trireme._rayhook.raylet",
    "ray.actor": "trireme._actor",
    "ray.air": "trireme._rayhook.air",
    "ray.air.config": "trireme._rayhook.air",
    "ray.air.session": "trireme._rayhook.air_session",
    "ray.object_ref": "trireme._object_ref",
    "ray.remote_function": "trireme._remote_function",
    "ray.tune.context": "trireme.tune.session",
    "ray.tune.logger.csv": "trireme.tune.logger.files",
    "ray.tune.logger.json": "trireme.tune.logger.files",
    "ray.tune.logger.tensorboardx": "trireme.tune.logger.tensorboard",
    "ray.tune.syncer": "trireme.train._config",
    "ray.types": "trireme._object_ref",
    "ray.util.debugpy": "trireme.util.rpdb",
    "ray.util.pdb": "trireme.util.rpdb",
}


def ours(name: str) -> str | None:
    """Return the module of Trireme that stands for one of Ray's, None when it can have none."""
    if name in MODULES:
        return MODULES[name]
    tail = name.partition(".")[2]
    # Private modules of Ray have no counterpart, even where one of ours has that name.
    if any(part.startswith("_") for part in tail.split(".")):
        return None
    return f"trireme.{tail}"
