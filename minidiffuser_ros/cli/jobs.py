"""Many independent jobs over a few processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError
from minidiffuser_ros.contract.workers import DIED, WAITING, over_processes

Job = TypeVar("Job")
Result = TypeVar("Result")

CONNECT_S = 5.0


def results_of(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, cluster: str | None = None
) -> Iterator[Result]:
    """Results as they come, in any order; one worker is this process itself.

    function: a module's own, so that other processes find it. cluster: 'local' starts Ray here, anything else is the
    address of a running cluster, where this package is installed. Raises ConnectionLostError where a worker dies; of
    Ray's each job is tried again first.
    """
    if cluster is not None:
        yield from _on_ray(function, jobs, workers, cluster)
    else:
        yield from over_processes(function, jobs, workers)


def _on_ray(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, cluster: str) -> Iterator[Result]:
    try:
        import ray
    except ImportError:
        raise ConfigurationError("--ray needs Ray: pip install 'minidiffuser_ros[ray]'") from None
    local = cluster == "local"
    try:
        if not local:
            host, _, port = cluster.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_S).close()  # Ray itself would wait for minutes
        ray.init(
            address="local" if local else cluster, num_cpus=workers if local else None, log_to_driver=False,
            include_dashboard=False if local else None, logging_level=logging.ERROR,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"no Ray cluster answers at '{cluster}' ({error}): name 'local' or HOST:PORT of one"
        ) from None
    try:
        # One job a process at a time; a process is used again and keeps its compiled scenes.
        remote: Any = ray.remote(num_cpus=1, max_retries=2)(function)
        remaining = iter(jobs)
        running = [remote.remote(job) for job in islice(remaining, WAITING * workers)]
        while running:
            done, running = ray.wait(running)
            running += [remote.remote(job) for job in islice(remaining, len(done))]
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # what the function raised
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.RaySystemError):
        raise ConnectionLostError(DIED) from None
    finally:
        ray.shutdown()
