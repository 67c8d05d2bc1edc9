"""A checkpoint: a folder of files that a run can go on from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

METADATA_FILE = ".metadata.json"


class Checkpoint:
    """A folder of files, and a small dict of metadata beside them. The object itself holds only the path.

    Parameters
    ----------
    path
        An existing folder, or (in a stored result) one that exists where it is read.
    filesystem
        Only None: storage is a mounted folder.
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: None = None) -> None:
        if filesystem is not None:
            raise ValueError("Checkpoint(filesystem=...) is not supported: mount the store and give the folder")
        self.path: str = os.path.abspath(os.fspath(path))
        self.filesystem = None

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Takes a folder as it is, without a copy.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        """
        if not os.path.isdir(path):
            raise FileNotFoundError(f"checkpoint folder {os.fspath(path)!r} does not exist (or is no folder)")
        return cls(path)

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copies the files.

        Parameters
        ----------
        path
            The folder to copy into, made if needed; a temporary one that the caller deletes when None.

        Returns
        -------
        str
            That folder.
        """
        target = os.fspath(path) if path is not None else tempfile.mkdtemp(prefix="checkpoint_")
        self._check_there()
        shutil.copytree(self.path, target, dirs_exist_ok=True)
        return target

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """The folder with the files, to be read within the ``with``: the checkpoint's own, so nothing is copied."""
        self._check_there()
        yield self.path

    def get_metadata(self) -> dict[str, Any]:
        """The metadata; an empty dict when none was set."""
        try:
            text = Path(self.path, METADATA_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            self._check_there()
            return {}
        return json.loads(text)

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replaces the metadata.

        Raises
        ------
        TypeError
            A value cannot be written as JSON.
        """
        self._check_there()
        # Renamed into place, so that a reader sees the old or the new text, never half of one.
        partial = Path(self.path, f"{METADATA_FILE}.{uuid.uuid4().hex}")
        try:
            partial.write_text(json.dumps(dict(metadata)), encoding="utf-8")
            partial.replace(Path(self.path, METADATA_FILE))
        finally:
            partial.unlink(missing_ok=True)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Adds to the metadata; keys that are there are replaced."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def to_files(self) -> dict[str, np.ndarray]:
        """The content in memory, to be put into the object store.

        Returns
        -------
        dict
            Path below the folder to its bytes (uint8, one dimension).
        """
        self._check_there()
        root = Path(self.path)
        return {
            str(file.relative_to(root)): np.fromfile(file, dtype=np.uint8)
            for file in sorted(root.rglob("*"))
            if file.is_file()
        }

    @classmethod
    def from_files(cls, files: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> Checkpoint:
        """Writes what `to_files` gave into the folder `path`, made if needed."""
        root = Path(path)
        for name, data in files.items():
            target = root / name
            if not target.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"the checkpoint holds a file {name!r}, which would lie outside of {str(root)!r}")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.asarray(data, dtype=np.uint8).tofile(target)
        root.mkdir(parents=True, exist_ok=True)
        return cls(root)

    def _check_there(self) -> None:
        if not os.path.isdir(self.path):
            raise FileNotFoundError(
                f"the checkpoint's folder {self.path!r} is not there: it was deleted (num_to_keep?) or "
                "lies on another machine's disk (RunConfig.storage_path must be reached by every rank)"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Checkpoint(path={self.path!r})"
