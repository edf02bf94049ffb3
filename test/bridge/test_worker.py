"""A worker does one thing at a time, can be interrupted, and hands errors to whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from minidiffuser_ros.bridge.worker import Worker
from minidiffuser_ros.contract.errors import BusyError


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("worker")
    yield worker
    worker.stop()


def test_a_job_returns_its_result_and_the_next_may_start_at_once(worker: Worker) -> None:
    for i in range(50):
        assert worker.start(lambda cancelled, i=i: 2 * i).result(5.0) == 2 * i


def test_all_jobs_run_in_one_thread_that_is_not_the_callers(worker: Worker) -> None:
    threads = {worker.start(lambda cancelled: threading.get_ident()).result(5.0) for _ in range(3)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_a_second_job_is_refused_while_one_runs(worker: Worker) -> None:
    future = worker.start(lambda cancelled: cancelled.wait(10.0))
    assert worker.busy
    with pytest.raises(BusyError, match="busy"):
        worker.start(lambda cancelled: None)
    assert worker.cancel()
    assert future.result(1.0) is True
    assert not worker.busy


def test_an_error_reaches_the_one_who_waits_and_the_worker_lives_on(worker: Worker) -> None:
    def fail(cancelled: threading.Event) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        worker.start(fail).result(5.0)
    assert worker.start(lambda cancelled: "alive").result(5.0) == "alive"


def test_cancel_says_when_a_job_does_not_listen(worker: Worker) -> None:
    release = threading.Event()
    worker.start(lambda cancelled: release.wait(10.0))
    assert not worker.cancel(timeout_s=0.05)
    release.set()
    assert worker.cancel(5.0)


def test_a_stopped_worker_takes_no_more_work_and_may_be_stopped_again(worker: Worker) -> None:
    future = worker.start(lambda cancelled: cancelled.wait(10.0))
    assert worker.stop()
    assert future.result(1.0) is True
    assert worker.stop()
    with pytest.raises(BusyError, match="stopped"):
        worker.start(lambda cancelled: None)
