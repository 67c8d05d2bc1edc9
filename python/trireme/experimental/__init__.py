"""Names that Ray programs look for under `experimental`."""

from trireme._lazy import attach

__getattr__, __dir__ = attach(__name__, {}, ("tqdm_ray",))
