"""Serves the module tree `ray` from `trireme`, for programs that were written for Ray."""

from trireme._rayhook.finder import VARIABLE, install, install_if_asked, installed

__all__ = ["VARIABLE", "install", "install_if_asked", "installed"]
