"""TensorBoard's event files, written and read without TensorBoard.

A file is a sequence of TFRecords: length (uint64, little endian), masked CRC-32C of the length, data, masked CRC-32C of
the data. The data is a protobuf message ``Event`` with wall_time (1, double), step (2, int64), file_version (3, string)
and summary (5), whose values (1) have a tag (1, string) and simple_value (2, float).
"""

from __future__ import annotations

import functools
import math
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_MASK_DELTA = 0xA282EAD8
_CHUNK = 1024
_LARGEST = 3.4028234663852886e38  # float32


@functools.lru_cache(None)
def _table() -> np.ndarray:
    """Row `n`: what each value of a byte adds to the CRC when `n` bytes come after it."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = (crc >> 1) ^ np.where(crc & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    rows = [crc]
    for _ in range(_CHUNK - 1):
        rows.append((rows[-1] >> 8) ^ crc[rows[-1] & 0xFF])
    return np.array(rows)


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes. A CRC is linear, so the bytes' parts are looked up together and added (xor)."""
    table = _table()
    crc = 0xFFFFFFFF
    for start in range(0, len(data), _CHUNK):
        chunk = np.frombuffer(data, np.uint8, min(_CHUNK, len(data) - start), start).copy()
        # What came before is a change of the first four bytes.
        head = min(4, len(chunk))
        chunk[:head] ^= np.frombuffer(struct.pack("<I", crc), np.uint8, head)
        rest = crc >> (8 * head) if head < 4 else 0
        crc = int(np.bitwise_xor.reduce(table[np.arange(len(chunk) - 1, -1, -1), chunk])) ^ rest
    return crc ^ 0xFFFFFFFF


@functools.lru_cache(64)
def _masked_crc_of_length(length: bytes) -> int:
    return masked_crc(length)


def masked_crc(data: bytes) -> int:
    """The checksum as a TFRecord stores it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF  # negative numbers as 64-bit two's complement
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


class EventFileWriter:
    """Writes scalars into a new event file.

    Threading: one thread.
    """

    def __init__(self, folder: str) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self.path = os.path.join(folder, name)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._tags: dict[str, bytes] = {}
        self._write(struct.pack("<Bd", 1 << 3 | 1, time.time()) + _field(3, b"brain.Event:2"))

    def add_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float | None = None) -> None:
        """Writes one event with a value for each tag."""
        summary = bytearray()
        for tag, number in scalars.items():
            head = self._tags.get(tag)
            if head is None:
                head = self._tags[tag] = _field(1, tag.encode()) + bytes([2 << 3 | 5])
            summary += _field(1, head + struct.pack("<f", _as_float32(number)))
        stamp = struct.pack("<Bd", 1 << 3 | 1, time.time() if wall_time is None else wall_time)
        self._write(stamp + b"\x10" + _varint(int(step)) + _field(5, bytes(summary)))

    def close(self) -> None:
        """No more events."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        os.write(
            self._file,
            length + struct.pack("<I", _masked_crc_of_length(length)) + data + struct.pack("<I", masked_crc(data)),
        )


def _as_float32(number: float) -> float:
    if math.isnan(number) or abs(number) <= _LARGEST:
        return number
    return math.copysign(math.inf, number)


@dataclass
class Event:
    """What one record holds."""

    wall_time: float
    step: int
    scalars: dict[str, float]
    version: str = ""


def read_events(path: str) -> Iterator[Event]:
    """The events of a file, checksums checked; a record that was cut off ends it.

    Raises
    ------
    ValueError
        A checksum is wrong.
    """
    with open(path, "rb") as file:
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack_from("<Q", head)
            if struct.unpack_from("<I", head, 8)[0] != masked_crc(head[:8]):
                raise ValueError(f"{path}: the checksum of a record's length is wrong")
            data, crc = file.read(length), file.read(4)
            if len(crc) < 4:
                return
            if struct.unpack("<I", crc)[0] != masked_crc(data):
                raise ValueError(f"{path}: the checksum of a record is wrong")
            yield _event(data)


def _event(data: bytes) -> Event:
    event = Event(0.0, 0, {})
    for number, value in _fields(data):
        if number == 1:
            event.wall_time = struct.unpack("<d", value)[0]  # type: ignore[arg-type]
        elif number == 2:
            event.step = value  # type: ignore[assignment]
        elif number == 3:
            event.version = value.decode()  # type: ignore[union-attr]
        elif number == 5:
            for _, entry in _fields(value):  # type: ignore[arg-type]
                inner = dict(_fields(entry))  # type: ignore[arg-type]
                event.scalars[inner[1].decode()] = struct.unpack("<f", inner[2])[0]  # type: ignore[union-attr,arg-type]
    return event


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return number

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size = varint()
        yield key >> 3, data[at : at + size]
        at += size
