"""Live tables."""

from trireme.tune.progress.reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter, TableReporter

__all__ = ["CLIReporter", "JupyterNotebookReporter", "ProgressReporter", "TableReporter"]
