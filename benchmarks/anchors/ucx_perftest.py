"""ucx_perftest as an anchor: starts its server and its client, prints one sample as a line of JSON.

usage: ucx_perftest.py am_lat [tls=shm|tcp] [size=8] [iterations=20000]
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def am_round_trip_ns(tls: str, size: str, iterations: str) -> float:
    """Nanoseconds of an active message and its answer: twice the one-way latency that ucx_perftest prints."""
    command = ["ucx_perftest", "-t", "ucp_am_lat", "-s", size, "-n", iterations, "-w", "2000", "-f",
               "-p", str(free_port())]
    cores = sorted(os.sched_getaffinity(0))
    env = dict(os.environ, UCX_TLS=tls, UCX_WARN_UNUSED_ENV_VARS="n")
    server = subprocess.Popen([*command, "-c", str(cores[1 % len(cores)])], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        # Debian's ucx_perftest does not flush before it listens, so the client tries until someone answers.
        for _ in range(50):
            client = subprocess.run([*command, "-c", str(cores[0]), "127.0.0.1"], env=env, text=True,
                                    capture_output=True, timeout=60)
            if client.returncode == 0:
                break
            if server.poll() is not None:
                raise RuntimeError(f"the server of ucx_perftest ended: {client.stderr}")
    finally:
        if server.poll() is None:
            try:
                server.wait(timeout=2)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGKILL)
                server.wait()
    rows = [line.split() for line in client.stdout.splitlines() if line[:1].isspace() or line[:1].isdigit()]
    numbers = [row for row in rows if len(row) >= 4 and row[0].isdigit()]
    if not numbers:
        raise RuntimeError(f"ucx_perftest printed no figures:\n{client.stdout}\n{client.stderr}")
    return 2000.0 * float(numbers[-1][3])


def main() -> int:
    options = dict(word.split("=", 1) for word in sys.argv[2:])
    if sys.argv[1:2] != ["am_lat"]:
        print(__doc__, file=sys.stderr)
        return 2
    value = am_round_trip_ns(options.get("tls", "shm"), options.get("size", "8"), options.get("iterations", "20000"))
    print(json.dumps({"case": "am_lat", "unit": "ns/round trip", "value": value}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
