"""Many independent jobs over a few processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from minidiffuser_ros.contract.errors import ConnectionLostError

Job = TypeVar("Job")
Result = TypeVar("Result")

WAITING = 2  # jobs a worker, so that none idles and an interrupted run leaves few half done
DIED = "a worker process died (killed, or out of memory): what is finished is kept; run the same command again"


def over_processes(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Results as they come, in any order; one worker is this process itself.

    function: a module's own, so that other processes find it; they are spawned, as a GL context does not survive a
    fork. Raises ConnectionLostError where a worker dies.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    remaining = iter(jobs)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Result]] = {pool.submit(function, job) for job in islice(remaining, WAITING * workers)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, job) for job in islice(remaining, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise ConnectionLostError(f"{DIED}, with fewer --workers if memory is short") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
