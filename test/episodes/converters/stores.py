"""Small keystep stores, packed by hand as msgpack-numpy documents its encoding and written by liblmdb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import msgpack
import numpy as np

CAMERAS, HEIGHT, WIDTH = 4, 24, 24
TABLE = 0.752
# Names of the links whose boxes a store keeps.
ARM = ("Panda_link0_visual", *(f"Panda_link{n}_respondable" for n in range(1, 8)))
HAND = ("Panda_gripper_visual", "Panda_leftfinger_visual", "Panda_rightfinger_visual")


def packable(value: Any) -> Any:
    """Arrays and numbers of numpy's as the maps that msgpack-numpy makes of them."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return {b"nd": True, b"type": b"|O", b"kind": b"O", b"shape": value.shape, b"data": value.dumps()}
    if isinstance(value, np.ndarray):
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": b"",
            b"shape": value.shape,
            b"data": np.ascontiguousarray(value).tobytes(),
        }
    if isinstance(value, np.generic):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    raise TypeError(type(value))


def packed(content: dict[str, Any], **settings: Any) -> bytes:
    return msgpack.packb(content, default=packable, **settings)


def some_keysteps(steps: int = 4, seed: int = 0) -> dict[str, Any]:
    """A table with a block on it, seen by four cameras as points; the arm hangs over it."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-0.1, 0.4, WIDTH), np.linspace(-0.3, 0.3, HEIGHT))
    on_block = (np.abs(x - 0.2) < 0.13) & (np.abs(y) < 0.13)
    plane = np.stack([x, y, np.where(on_block, TABLE + 0.08, TABLE)], axis=-1)
    pc = np.broadcast_to(plane, (steps, CAMERAS, HEIGHT, WIDTH, 3)).copy()
    pc[..., :2] += rng.uniform(-0.002, 0.002, (*pc.shape[:-1], 2))
    rgb = np.where(on_block[..., None], np.uint8([220, 30, 30]), np.uint8([90, 90, 90]))
    quats = rng.normal(size=(steps, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    tips = np.column_stack([rng.uniform(0.0, 0.4, steps), rng.uniform(-0.2, 0.2, steps), np.full(steps, TABLE + 0.3)])
    return {
        "key_frameids": list(range(0, 7 * steps, 7)),
        "rgb": np.broadcast_to(rgb, pc.shape).astype(np.uint8),
        "pc": pc.astype(np.float32),
        "depth": rng.uniform(0.5, 1.5, pc.shape[:-1]).astype(np.float32),
        "action": np.column_stack([tips, quats, np.arange(steps) % 2]).astype(np.float32),
        "gripper_pose": [{"front": (3, 4), "wrist": (np.int64(5), np.float64(6.0))} for _ in range(steps)],
        "bbox_info": {},
        "pose_info": {},
    }


def with_boxes(content: dict[str, Any], at: np.ndarray) -> dict[str, Any]:
    """Boxes around the robot far away, but for the hand: a cube of 10 cm with its centre 2 cm above `at` [3]."""
    steps = len(content["action"])
    turned = np.array([0.0, 0.0, np.sin(0.3), np.cos(0.3)])  # x y z w
    for link in ARM + HAND:
        near = link == "Panda_gripper_visual"
        low, high = np.array([-0.05, -0.05, -0.03]), np.array([0.05, 0.05, 0.07])
        position = at if near else np.array([-5.0, 0.0, 1.0])
        content["bbox_info"][f"{link}_bbox"] = np.tile(np.stack([low, high], 1).ravel(), (steps, 1))
        content["pose_info"][f"{link}_pose"] = np.tile([*position, *turned], (steps, 1))
    return content


def thinned(content: dict[str, Any]) -> dict[str, Any]:
    """The same as clouds, one list per step, as the simple policies are trained on."""
    steps = len(content["action"])
    return {
        "xyz": [content["pc"][t].reshape(-1, 3) for t in range(steps)],
        "rgb": [content["rgb"][t].reshape(-1, 3) for t in range(steps)],
        **{key: content[key] for key in ("bbox_info", "pose_info", "key_frameids", "action")},
    }


def write_store(folder: Path, messages: dict[str, bytes]) -> Path:
    """An LMDB as `lmdb.open` makes it, one transaction an episode."""
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**28) as store:
        for key, message in messages.items():
            with store.begin(write=True) as transaction:
                transaction.put(key.encode("ascii"), message)
    return folder
