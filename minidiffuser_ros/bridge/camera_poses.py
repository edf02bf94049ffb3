"""The poses of the cameras as a node needs them: read or listened for, their age watched and told."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rclpy.node import Node

from minidiffuser_ros.arm.frames import known_frames
from minidiffuser_ros.bridge.diagnostics import Diagnostics, Level
from minidiffuser_ros.bridge.transforms import TransformTree, mount_from_tf
from minidiffuser_ros.contract.calibration import TF, CalibrationRecord, CameraPoseSettings, calibration_sources
from minidiffuser_ros.contract.errors import ConfigurationError, MessageError
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.perception.calibration import read_calibration

MAX_CLOCK_DIFFERENCE_DAYS = 0.1


class CameraPoses:
    """Mounts and records of a node's cameras. Those from files are there at once, those from TF when TF has them.

    A pose from TF is looked up once: a camera does not move while a node is configured.
    Raises ConfigurationError for files that cannot be used, and for `tf` without tf2_ros.
    """

    def __init__(self, node: Node, settings: CameraPoseSettings, cameras: Sequence[str]) -> None:
        self._node, self._settings, self._cameras = node, settings, tuple(cameras)
        self._known_frames = known_frames()
        sources = calibration_sources(settings.calibration)
        found = read_calibration(sources, cameras, self._known_frames)
        self.mounts: dict[str, CameraMount] = found.mounts
        self._records = found.records
        self._tree = TransformTree(node) if any(part.source == TF for part in sources) else None
        self._diagnostics = Diagnostics(node, part="calibration")
        for warning in self.warnings():
            node.get_logger().warning(warning)

    @property
    def records(self) -> tuple[CalibrationRecord, ...]:
        """What is known of each camera's calibration, in the order of the cameras."""
        return tuple(self._records[name] for name in self._cameras if name in self._records)

    def reasons(self) -> list[str]:
        """One sentence for each camera whose pose is not there yet; asks TF for those."""
        return [sentence for name in self._cameras if name not in self.mounts if (sentence := self._look_up(name))]

    def warnings(self) -> list[str]:
        """One sentence for each calibration older than the setting allows, or dated in the future."""
        limit, now = self._settings.max_calibration_age_days, datetime.now(UTC)
        ages = [(record, record.age_days(now)) for record in self.records]
        early = [
            f"the calibration of camera '{record.camera}' in {record.source} is dated {record.date}, in the future: "
            "check the clock of this machine and of the one that calibrated"
            for record, age in ages
            if age is not None and age < -MAX_CLOCK_DIFFERENCE_DAYS
        ]
        return early + [
            f"the calibration of camera '{record.camera}' in {record.source} is {age:.0f} days old, warned of from "
            f"{limit:g}: calibrate anew, or check it (minidiffuser calibrate check)"
            for record, age in ages
            if limit > 0.0 and age is not None and age > limit
        ]

    def tell(self) -> None:
        """Publish sources, hashes and ages on /diagnostics."""
        reasons, warnings, now = self.reasons(), self.warnings(), datetime.now(UTC)
        values: dict[str, object] = {}
        for record in self.records:
            age = record.age_days(now)
            values[f"{record.camera}.source"] = record.source
            values[f"{record.camera}.sha256"] = record.sha256
            values[f"{record.camera}.date"] = record.date or "unknown"
            values[f"{record.camera}.age_days"] = "unknown" if age is None else f"{age:.1f}"
        level = Level.ERROR if reasons else Level.WARN if warnings else Level.OK
        sentence = "; ".join([*reasons, *warnings]) or f"the poses of {len(self.mounts)} cameras are known"
        self._diagnostics.tell(level, sentence, values)

    def close(self) -> None:
        """Stop listening to TF."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def _look_up(self, camera: str) -> str:
        """Ask TF for a pose; the reason why there is none, or nothing."""
        if self._tree is None:
            return f"camera '{camera}' has no pose"
        frame = self._settings.optical_frame.replace("{camera}", camera)
        try:
            mount = mount_from_tf(self._tree, camera, frame, self._known_frames)
        except (MessageError, ConfigurationError) as error:
            return str(error)
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(mount), sort_keys=True).encode()).hexdigest()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._records[camera] = CalibrationRecord(camera, f"{TF}: {mount.parent_frame} to {frame}", digest, now, TF)
        self.mounts[camera] = mount
        return ""
