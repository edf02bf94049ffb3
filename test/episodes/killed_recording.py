"""Recordings in a process of its own, for a test that kills it: one after another, saved, discarded, labelled."""

from __future__ import annotations

import random
import time
from pathlib import Path

from small_episode import TOPICS, begun, small_stream

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.episodes.library import label_episode
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.episodes.typestore import message_definition
from minidiffuser_ros.episodes.writer import WriterSettings

SETTINGS = WriterSettings(chunk_mb=0.005, flush_s=0.005, queue_mb=1.0, min_free_mb=1.0)
# Names of the episodes that this process has labelled, each written before the label is.
LABELLED = "labelled.txt"
SENT = small_stream(0.25)
DATA = [message.data() for message in SENT]
# Here once, and not in each process that is forked from this one.
DEFINITIONS = [message_definition(kind) for kind in topic_types(TOPICS).values()]


def record(root: Path, seed: int) -> None:
    """Record episodes until killed."""
    rng = random.Random(seed)
    with (root / LABELLED).open("a", buffering=1) as labelled:
        while True:
            writer = begun(root, SETTINGS)
            for message, data in zip(SENT, DATA, strict=True):
                writer.write(message.topic, message.log_ns, data, message.sequence)
                if rng.random() < 0.1:
                    time.sleep(0.001)
            if rng.random() < 0.1:
                writer.discard()
                continue
            folder = writer.save()
            if rng.random() < 0.5:
                labelled.write(f"{folder.name}\n")
                label_episode(folder, SUCCESS)
