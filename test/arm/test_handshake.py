"""The version of an arm's protocol is asked for without moving or changing anything."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from simulated_franka import SimulatedFranka, start_franka

from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.handshake import Handshake, shake_hands, version_offered
from minidiffuser_ros.contract.errors import ConnectionLostError


@pytest.fixture(scope="module")
def franka() -> Iterator[SimulatedFranka]:
    pytest.importorskip("franky_sim")
    franka = start_franka(host=23)
    yield franka
    franka.kill()


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Starts a server that treats its one client as it is told; gives its port."""
    servers: list[socket.socket] = []

    def start(treat: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                treat(client)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        server.close()


def answering(status: int, version: int) -> Callable[[socket.socket], None]:
    def treat(client: socket.socket) -> None:
        command, number, size = struct.unpack("<III", client.recv(12))
        assert (command, size) == (0, 16)
        client.recv(4)
        # In pieces, as a network may deliver it.
        for byte in struct.pack("<III", command, number, 20) + struct.pack("<HH4x", status, version):
            client.sendall(bytes([byte]))

    return treat


def test_a_simulated_arm_says_its_version_and_is_free_again_afterwards(franka: SimulatedFranka) -> None:
    for _ in range(2):
        answer = shake_hands(franka.address, 10, timeout_s=10.0)
        assert (answer.server_version, answer.accepted) == (10, True)
        assert answer.connect_ms > 0.0
    arm = FrankyArm(franka.address)
    assert arm.state().joints.shape == (7,)
    arm.close()


def test_an_arm_that_another_client_owns_is_told_from_one_that_is_off(franka: SimulatedFranka) -> None:
    arm = FrankyArm(franka.address)
    answer = shake_hands(franka.address, 10, timeout_s=0.5)
    assert answer.server_version is None
    assert arm.state().joints.shape == (7,)
    arm.close()


def test_an_arm_of_another_version_says_which(listen: Callable[..., int]) -> None:
    answer = shake_hands("127.0.0.1", 10, 10.0, listen(answering(1, 5)))
    assert (answer.server_version, answer.accepted) == (5, False)


@pytest.mark.parametrize(
    ("treat", "word"),
    [
        (lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no Franka arm"),
        (lambda client: client.sendall(struct.pack("<III", 0, 0, 2**31)), "no Franka arm"),
        (lambda client: client.recv(12), "hung up|reset"),
    ],
    ids=["web server", "endless answer", "hangs up"],
)
def test_whoever_else_listens_there_is_one_clear_sentence(
    listen: Callable[..., int], treat: Callable[[socket.socket], None], word: str
) -> None:
    with pytest.raises(ConnectionLostError, match=word):
        shake_hands("127.0.0.1", 10, 1.0, listen(treat))


def test_the_version_that_a_driver_offers_is_seen_from_the_other_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: list[Handshake] = []

    def connect() -> None:
        client = lambda: answers.append(shake_hands("127.0.0.1", 7, 5.0, port))  # noqa: E731
        clients.append(threading.Thread(target=client, daemon=True))
        clients[0].start()

    clients: list[threading.Thread] = []
    assert version_offered(connect, "127.0.0.1", 5.0, port) == 7
    clients[0].join(5.0)
    assert [(answer.server_version, answer.accepted) for answer in answers] == [(0, False)]
    with pytest.raises(ConnectionLostError, match="did not connect"):
        version_offered(lambda: None, "127.0.0.1", 0.1, port)


def test_where_nothing_listens_the_sentence_says_what_to_look_at() -> None:
    with pytest.raises(ConnectionLostError, match=r"nothing answers at 127\.0\.0\.1:1 .*FCI"):
        shake_hands("127.0.0.1", 10, 1.0, 1)
