"""Ray's name of `trireme.util.tqdm`."""

from trireme.util.tqdm import safe_print, tqdm, trange

__all__ = ["safe_print", "tqdm", "trange"]
