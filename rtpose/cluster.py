"""Work spread over a Ray cluster: one task a job, begun again where its worker dies. Needs the extra `cluster`."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

from .errors import InputError

Job = TypeVar("Job")
Found = TypeVar("Found")

ATTEMPTS = 4
"""So often a job is begun at most."""
PATIENCE = 10.0
"""Seconds in which a cluster has to answer; Ray itself waits for minutes."""
_STORE = 100 << 20
"""Bytes of Ray's store of objects on a cluster of our own: jobs and what is found are small, results go to files."""


def spread(
    work: Callable[[Job], Found],
    jobs: Sequence[Job],
    again: Callable[[Job], Job],
    *,
    processors: int,
    threads: int = 0,
    address: str | None = None,
) -> Iterator[tuple[Job, Found | None]]:
    """Yield each job with what `work` found, in the order in which they are done; None where worker after worker died over it.

    again: the job as it is to be begun anew. threads: the processors that a job takes, 0: a whole machine. address: HOST:PORT of a
    running cluster, by default $RAY_ADDRESS; without either one is started here, with so many `processors`, which listens on this machine
    alone and has a token of its own. The workers need
    rtpose and the current folder under its own name. Raises InputError where there is no Ray, no cluster, or no machine large
    enough.
    """
    if find_spec("ray") is None:
        raise InputError("--on ray needs Ray: pip install 'rtpose[cluster]'")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        # Read when Ray is imported. Without the first its servers listen on every address of this machine.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        _check_token(address)
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    _connect(ray, address, processors)
    try:
        # Ray's own retries would begin a job as if nothing of it were there.
        task = ray.remote(num_cpus=_share(ray, threads), max_retries=0)(_in_folder)

        def begin(job: Job) -> Any:
            return task.remote(os.getcwd(), work, job)

        running = {begin(job): (job, 1) for job in jobs}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            job, attempts = running.pop(done)
            try:
                yield job, ray.get(done)
            except (NodeDiedError, OutOfMemoryError, WorkerCrashedError):
                if attempts == ATTEMPTS:
                    yield job, None
                else:
                    running[begin(again(job))] = job, attempts + 1
    finally:
        ray.shutdown()


def _in_folder(folder: str, work: Callable[[Job], Found], job: Job) -> Found:
    """Do the work where the command was given, so that relative names mean the same files."""
    os.chdir(folder)
    return work(job)


_ASK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"


def _check_token(address: str) -> None:
    """Raise InputError where nobody answers there, or the cluster has another token than we.

    Of another token `ray.init` says nothing for more than a minute and then ends the process; without any it aborts. So a process of its
    own asks before.
    """
    place = address.rpartition("/")[2]
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
        asked = subprocess.run([sys.executable, "-c", _ASK, place], capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, ValueError, OverflowError, subprocess.TimeoutExpired):
        raise _no_answer(address) from None
    said = asked.stderr.lower()
    if asked.returncode and (b"token" in said or b"authentication" in said):
        raise _no_entry(address)


def _no_answer(address: str) -> InputError:
    return InputError(f"no Ray cluster answers at {address}: give --address HOST:PORT of one that runs")


def _no_entry(address: str) -> InputError:
    return InputError(
        f"the Ray cluster at {address} does not accept this token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the one that it has"
    )


def _connect(ray: Any, address: str | None, processors: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", num_cpus=processors, object_store_memory=_STORE, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except ray.exceptions.AuthenticationError:
        raise _no_entry(address) from None
    except (OSError, RuntimeError, ValueError, SystemExit):
        raise _no_answer(address) from None


def _share(ray: Any, threads: int) -> int:
    """The processors that a job takes of its machine."""
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    largest = max(machines, default=0)
    if largest < max(1, threads):
        raise InputError(f"--threads {threads}: the largest machine of the Ray cluster has {largest} processors")
    return threads or min(count for count in machines if count)
