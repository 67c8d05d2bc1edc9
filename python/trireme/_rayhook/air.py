"""Ray's `ray.air`: the configurations that Train and Tune share, and their session."""

from trireme._lazy import attach

_TRAIN = ("Checkpoint", "CheckpointConfig", "FailureConfig", "Result", "RunConfig", "ScalingConfig")

__getattr__, __dir__ = attach(
    __name__, {**dict.fromkeys(_TRAIN, "trireme.train"), "session": "trireme._rayhook.air_session"}
)
