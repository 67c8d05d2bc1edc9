"""The reporters, where Ray has them."""

from trireme.tune.progress.reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter

__all__ = ["CLIReporter", "JupyterNotebookReporter", "ProgressReporter"]
