"""What is where."""

from __future__ import annotations

import socket
from typing import Any

import trireme


def get_node_ip_address() -> str:
    """Return the address by which other nodes reach this one; 127.0.0.1 when it has no other."""
    # Connecting a datagram socket sends nothing; the kernel only chooses the address it would send from.
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    except OSError:
        return "127.0.0.1"
    finally:
        probe.close()


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the job's actors that have one.

    Parameters
    ----------
    all_namespaces
        Of all namespaces, as dicts with `name` and `namespace`; otherwise the names in this one.
    """
    from trireme.util.state import list_actors

    here = trireme.get_runtime_context().namespace
    named = [a for a in list_actors(limit=1_000_000) if a.name and a.state != "DEAD"]
    if all_namespaces:
        return [{"name": a.name, "namespace": a.ray_namespace} for a in named]
    return [a.name for a in named if a.ray_namespace == here]
