"""Does the recorder keep up with two RGB-D cameras, what does it cost, and where does loss begin?

    python benchmarks/recording.py                         # 2 minutes at 15 Hz through the real node
    python benchmarks/recording.py --compressions          # chunk compressions side by side, without ROS
    python benchmarks/recording.py --ceiling               # faster and faster until messages are lost

Two 640×480 cameras (rgb8, 16UC1) and joint states, tool pose and gripper target at 100 Hz are published by a process of
their own. The pictures are drawn by MuJoCo on the way through a task, with noise as sensors have it; they repeat after
a few seconds. Expected is what the publisher counted. Shares of CPU are of one core. To see what Fast DDS's own shared
memory loses: FASTRTPS_DEFAULT_PROFILES_FILE= python benchmarks/recording.py
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import zstandard
from numpy.typing import NDArray

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import quat_from_matrix
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.tabletop import Tabletop

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = ROOT / "config" / "simulation_cameras.yaml"
VGA = PinholeCamera.from_fov(640, 480, 42.0)
ROUNDS, SEED, STATE_RATE_HZ = 45, 0, 100.0
CEILING_RATES = (15, 20, 25, 30, 40, 50, 60)
CEILING_S, SETTLE_S = 15.0, 4.0
MAX_LOST = 0.001


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds (default %(default)s)")
    parser.add_argument("--rate", type=float, default=15.0, help="pictures a second of each camera")
    parser.add_argument("--compression", default="zstd", choices=("none", "lz4", "zstd"))
    parser.add_argument("--compressions", action="store_true", help="compare compressions and end")
    parser.add_argument("--ceiling", action="store_true", help="raise the rate until messages are lost")
    parser.add_argument("--out", type=Path, help="where episodes are written (default: a temporary folder)")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish is not None:
        publish(args.publish, args.rate)
        return
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        pictures = Path(folder) / "pictures.npz"
        draw(pictures)
        print(f"load average of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        if args.compressions:
            compare_compressions(pictures)
            return
        print(f"{'Hz':>4} {'compression':<12}{RESULT_HEAD}")
        for rate in CEILING_RATES if args.ceiling else (args.rate,):
            result = record(
                Path(folder), pictures, rate, CEILING_S if args.ceiling else args.duration, args.compression
            )
            print(f"{rate:>4g} {args.compression:<12}{result_line(result)}", flush=True)
            if args.ceiling and result["lost"] > MAX_LOST * result["expected"]:
                break


# -- pictures -----------------------------------------------------------------------------------------------------


def draw(path: Path) -> None:
    """Pictures along a way over the table, as cameras deliver them: color [T, C, H, W, 3], depth [T, C, H, W] in mm."""
    world, rng = Tabletop(), np.random.default_rng(SEED)
    world.reset("stack_pair", SEED)
    world.model.vis.global_.offwidth, world.model.vis.global_.offheight = VGA.width, VGA.height
    renderer = RgbdRenderer(world.model, VGA)
    home = world.arm.tool_transform
    colors, depths = [], []
    for index in range(ROUNDS):
        turn = 2 * np.pi * index / ROUNDS
        position = home[:3, 3] + [0.1 + 0.08 * np.sin(turn), 0.12 * np.cos(turn), -0.1]
        world.execute(Keypose(position, quat_from_matrix(home[:3, :3]), 1.0))
        views = [renderer.render(world.model, world.data, camera) for camera in ("front", "wrist")]
        colors.append([noisy_color(color, rng) for color, _ in views])
        depths.append([noisy_depth(depth, rng) for _, depth in views])
    renderer.close()
    np.savez(path, color=np.array(colors), depth=np.array(depths))


def noisy_color(color: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shot and read noise of a small sensor, two to three levels, smeared over neighbours as demosaicing does."""
    sigma = 1.0 + 0.12 * np.sqrt(color.astype(np.float32))
    noise = rng.normal(0.0, 1.0, color.shape).astype(np.float32)
    noise = 0.7 * (noise + 0.5 * np.roll(noise, 1, 1) + 0.5 * np.roll(noise, 1, 0))
    return np.clip(np.round(color + sigma * noise), 0, 255).astype(np.uint8)


def noisy_depth(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Noise of a stereo camera: it grows with the square of the distance, in blobs, with holes at the edges."""
    metres = np.nan_to_num(depth, nan=0.0)
    coarse = rng.normal(0.0, 1.0, (depth.shape[0] // 4 + 1, depth.shape[1] // 4 + 1)).astype(np.float32)
    blobs = np.kron(coarse, np.ones((4, 4), np.float32))[: depth.shape[0], : depth.shape[1]]
    millimetres = 1e3 * metres + 2.5 * metres**2 * (blobs + 0.4 * rng.normal(0.0, 1.0, depth.shape))
    edges = np.abs(np.gradient(metres, axis=1)) > 0.02
    holes = edges | (rng.random(depth.shape) < 0.002) | (metres <= 0.0) | (metres > 10.0)
    return np.where(holes, 0, np.round(millimetres)).clip(0, 65535).astype(np.uint16)


# -- compressions -------------------------------------------------------------------------------------------------


def compare_compressions(pictures: Path) -> None:
    """Seconds of CPU and size for one second of two cameras at 15 Hz, in chunks of 4 MB."""
    archive = np.load(pictures)
    stream = b"".join(
        part.tobytes()
        for pair in zip(archive["color"], archive["depth"], strict=True)
        for view in zip(*pair, strict=True)
        for part in view
    )
    chunks = [stream[at : at + 4_000_000] for at in range(0, len(stream), 4_000_000)]
    megabytes = len(stream) / 1e6
    per_second = megabytes / ROUNDS * 15.0
    variants: dict[str, Any] = {
        "none": lambda data: data,
        "lz4": lz4.frame.compress,
        "zstd -5": lambda data: zstandard.compress(data, -5),
        "zstd 1": lambda data: zstandard.compress(data, 1),
        "zstd 3": lambda data: zstandard.compress(data, 3),
        "zstd 6": lambda data: zstandard.compress(data, 6),
    }
    print(f"{'':<10}{'MB/s of one core':>18}{'size':>8}{'share at 15 Hz':>16}{'GB a minute':>13}")
    for name, compress in variants.items():
        start = time.process_time()
        size = sum(len(compress(chunk)) for chunk in chunks)
        spent = max(time.process_time() - start, 1e-6)
        speed = f"{megabytes / spent:.0f}" if name != "none" else "–"
        share = f"{per_second * spent / megabytes:.0%}" if name != "none" else "–"
        gigabytes = 60 * per_second * size / len(stream) / 1e3
        print(f"{name:<10}{speed:>18}{size / len(stream):>8.0%}{share:>16}{gigabytes:>13.2f}")


# -- the node -----------------------------------------------------------------------------------------------------

RESULT_HEAD = (
    f"{'received':>10}{'expected':>10}{'lost':>7}{'queue full':>12}{'on the way':>12}{'MB/s raw':>10}{'MB/s disk':>11}"
    f"{'recorder':>10}{'publisher':>11}{'save s':>8}{'sent Hz':>9}"
)


def result_line(r: dict[str, Any]) -> str:
    """One line of the table."""
    return (
        f"{r['received']:>10}{r['expected']:>10}{r['lost']:>7}{r['dropped']:>12}{r['way']:>12}"
        f"{r['raw_mb_s']:>10.1f}{r['disk_mb_s']:>11.1f}{r['recorder']:>10.0%}{r['publisher']:>11.0%}{r['save_s']:>8.2f}"
        f"{r['sent_hz']:>9.1f}"
    )


def record(folder: Path, pictures: Path, rate: float, duration_s: float, compression: str) -> dict[str, Any]:
    """Record through the real node for `duration_s`."""
    root = folder / f"episodes-{rate:g}"
    settings = {
        "root": str(root), "calibration": str(CALIBRATION), "writer.compression": compression,
        "max_duration_s": 3600.0, "liveness.min_picture_rate_hz": 1.0, "liveness.min_state_rate_hz": 5.0,
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
    node = [sys.executable, "-m", "minidiffuser_ros.nodes", "recorder", "--ros-args", "--log-level", "warn", *words]
    publisher = [sys.executable, str(Path(__file__).resolve()), "--publish", str(pictures), "--rate", str(rate)]
    with subprocess.Popen(node) as recorder, subprocess.Popen(publisher) as source:
        try:
            return observe(root, recorder.pid, source.pid, duration_s)
        finally:
            source.terminate()
            recorder.terminate()


def observe(root: Path, recorder: int, source: int, duration_s: float) -> dict[str, Any]:
    """Start, wait, stop, and read the figures off the status, the audit and /proc."""
    import rclpy

    from minidiffuser_ros.bridge.qos import LATCHED
    from minidiffuser_ros.episodes.audit import read_audit
    from minidiffuser_ros.episodes.library import saved_episodes
    from minidiffuser_ros.msg import RecorderStatus
    from minidiffuser_ros.srv import StartRecording

    rclpy.init()
    client, newest = rclpy.create_node("benchmark"), []
    try:
        client.create_subscription(RecorderStatus, "recorder/status", newest.append, LATCHED)
        request = StartRecording.Request(task="benchmark", instruction="keep up", variation=-1, seed=-1)
        deadline, answer = time.monotonic() + 60.0, None
        time.sleep(SETTLE_S)
        while answer is None or not answer.success:
            if time.monotonic() > deadline:
                raise SystemExit(answer.message if answer else "the recorder did not start")
            answer = ask(client, StartRecording, "recorder/start", request)
        before, began = (cpu_s(recorder), cpu_s(source)), time.monotonic()
        while time.monotonic() - began < duration_s:
            rclpy.spin_once(client, timeout_sec=0.5)
        spent, took_s = (cpu_s(recorder) - before[0], cpu_s(source) - before[1]), time.monotonic() - began
        saving = time.monotonic()
        stopped = ask(client, None, "recorder/stop", None)
        save_s = time.monotonic() - saving
    finally:
        client.destroy_node()
        rclpy.shutdown()
    if not stopped.success:
        raise SystemExit(stopped.message)
    last = next(status for status in reversed(newest) if status.state == RecorderStatus.RECORDING)
    (episode,) = saved_episodes(root)
    topics = read_audit(episode).topics
    size = sum(path.stat().st_size for path in episode.iterdir())
    received, expected = (sum(getattr(t, name) for t in topics.values()) for name in ("received", "expected"))
    color = next(t for name, t in topics.items() if name.endswith("color/image_raw"))
    return {
        "received": received, "expected": expected, "lost": expected - received,
        "dropped": sum(t.dropped for t in topics.values()),
        "way": max(expected - received - sum(t.dropped for t in topics.values()), 0),
        "raw_mb_s": last.bytes / last.duration_s / 1e6, "disk_mb_s": size / took_s / 1e6,
        "recorder": spent[0] / took_s, "publisher": spent[1] / took_s, "save_s": save_s,
        "sent_hz": color.expected / took_s,
    }  # fmt: skip


def ask(client: Any, kind: Any, name: str, request: Any) -> Any:
    """Call a service; a Trigger where no request is given."""
    import rclpy
    from std_srvs.srv import Trigger

    service = client.create_client(kind or Trigger, name)
    if not service.wait_for_service(30.0):
        raise SystemExit(f"nobody offers {name}")
    future = service.call_async(request or Trigger.Request())
    rclpy.spin_until_future_complete(client, future, timeout_sec=120.0)
    return future.result()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the publisher ------------------------------------------------------------------------------------------------


def publish(pictures: Path, rate: float) -> None:
    """Publish until terminated: messages serialised once, only their stamps are new."""
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from rclpy.serialization import serialize_message
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import CameraInfo, Image, JointState

    from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
    from minidiffuser_ros.bridge.conversions import (
        image_from_color,
        image_from_depth,
        info_from_camera,
        joint_state,
        stamped_pose,
    )  # fmt: skip
    from minidiffuser_ros.bridge.qos import SENSOR_DATA
    from minidiffuser_ros.contract.installation import transport_profiles

    os.environ.update(transport_profiles())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, archive = rclpy.create_node("cameras"), np.load(pictures)
    colors, depths = archive["color"], archive["depth"]
    slow: list[tuple[Any, list[bytearray]]] = []
    for index, camera in enumerate(("front", "wrist")):
        color = [serialize_message(image_from_color(c[index], camera, 0)) for c in colors]
        depth = [
            serialize_message(image_from_depth(1e-3 * d[index].astype(np.float32), camera, 0, "16UC1")) for d in depths
        ]
        info = [serialize_message(info_from_camera(VGA, camera, 0))]
        names = (
            f"{camera}/color/image_raw",
            f"{camera}/aligned_depth_to_color/image_raw",
            f"{camera}/color/camera_info",
        )
        for name, kind, data in zip(names, (Image, Image, CameraInfo), (color, depth, info), strict=True):
            slow.append((node.create_publisher(kind, name, SENSOR_DATA), [bytearray(d) for d in data]))
    joints = joint_state((*JOINT_NAMES, *FINGER_NAMES), [*HOME_JOINTS, 0.03, 0.03], 0)
    fast = [
        (node.create_publisher(kind, name, SENSOR_DATA), [bytearray(serialize_message(message))])
        for kind, name, message in (
            (JointState, "joint_states", joints),
            (JointState, "gripper_target", joint_state(["fr3_gripper"], [1.0], 0)),
            (PoseStamped, "tcp_pose", stamped_pose([0.4, 0.0, 0.3], (1.0, 0.0, 0.0, 0.0), "fr3_link0", 0)),
        )
    ]
    began, counts = time.monotonic(), [0, 0]
    while True:
        for which, (outputs, hertz) in enumerate(((fast, STATE_RATE_HZ), (slow, rate))):
            if time.monotonic() - began >= counts[which] / hertz:
                stamp = time.time_ns()
                for output, messages in outputs:
                    message = messages[counts[which] % len(messages)]
                    struct.pack_into("<iI", message, 4, stamp // 10**9, stamp % 10**9)
                    output.publish(bytes(message))
                counts[which] += 1
        due = min(counts[0] / STATE_RATE_HZ, counts[1] / rate) - (time.monotonic() - began)
        time.sleep(max(due, 0.0))


if __name__ == "__main__":
    main()
