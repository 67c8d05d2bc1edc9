"""Sub-commands of `trireme`: each module here is one, under its own name.

A module has `HELP` (one line), `add_arguments(parser)` and `run(arguments) -> int` (the exit status).
"""
