"""Jobs are spread over processes or a Ray cluster; whoever dies there is said to have died."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidiffuser_ros.cli.jobs import results_of
from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, EpisodeError


def square(number: int) -> int:
    return number * number


def worker_of(number: int) -> int:
    return os.getpid()


def square_and_worker(number: int) -> tuple[int, int]:
    return square(number), os.getpid()


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def complain(number: int) -> int:
    raise EpisodeError("this one is damaged")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers: int) -> None:
    assert sorted(results_of(square, range(9), workers)) == [n * n for n in range(9)]


def test_one_worker_is_this_process_itself() -> None:
    assert set(results_of(worker_of, range(3), 1)) == {os.getpid()}


def test_a_killed_worker_is_said_in_a_sentence_and_what_was_finished_came_before() -> None:
    with pytest.raises(ConnectionLostError, match=r"a worker process died .* run the same command again, with fewer"):
        list(results_of(die, range(40), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_job_reaches_the_caller_as_it_is(workers: int) -> None:
    with pytest.raises(EpisodeError, match="this one is damaged"):
        list(results_of(complain, range(5), workers))


def test_without_ray_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        list(results_of(square, range(2), 2, "local"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_a_cluster_that_does_not_answer_is_named(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigurationError, match=f"no Ray cluster answers at '{address}'.*HOST:PORT"):
        list(results_of(square, range(2), 2, address))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with two workers, which import this file; its users share no token."""
    pytest.importorskip("ray")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", f"--port={address.split(':')[1]}")
    head = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", "--head", "--block", *options],
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 90.0
    while time.monotonic() < deadline and head.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 1.0).close()
            break
        time.sleep(0.5)
    yield address
    del os.environ["RAY_AUTH_MODE"]
    os.killpg(head.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        head.wait(20.0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_of_two_workers_does_every_job_once_and_hands_errors_on(cluster: str) -> None:
    pairs = list(results_of(square_and_worker, range(8), 2, cluster))
    assert sorted(square for square, _ in pairs) == [n * n for n in range(8)]
    assert os.getpid() not in {worker for _, worker in pairs}
    with pytest.raises(EpisodeError, match="this one is damaged"):
        list(results_of(complain, range(2), 2, cluster))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_demonstrations_from_a_cluster_are_those_of_this_machine(cluster: str, tmp_path: Path) -> None:
    for folder, options in (("near", ["--workers", "1"]), ("far", ["--workers", "2", "--ray", cluster])):
        assert main(["demos", "--out", str(tmp_path / folder), "--per-task", "1", *options]) == 0
    files = sorted(path.relative_to(tmp_path / "near") for path in (tmp_path / "near").glob("*/*.npz"))
    assert len(files) == 2
    for name in files:
        assert (tmp_path / "far" / name).read_bytes() == (tmp_path / "near" / name).read_bytes()
