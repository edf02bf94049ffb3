"""Which sentences belong to a task: from a mapping file, or the task's name where there is none.

The mapping is JSON or YAML, as 3D-LOTUS and Mini-Diffuser ship it: a task, or task and variation joined by `+`, to
one sentence or a list of them.

    {"close_jar_peract+0": ["close the red jar", "screw on the red jar lid"], "close_box": "close the lid of the box"}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from minidiffuser_ros.contract.episode import MAX_TEXT
from minidiffuser_ros.contract.errors import ConfigurationError

MAX_BYTES = 16 * 2**20
MAX_SENTENCES = 1000
# What names of simulated tasks end on without it meaning anything.
SUFFIXES = ("_peract",)

Sentences = Mapping[str, tuple[str, ...]]


def load_sentences(path: Path | None) -> Sentences:
    """Sentences by task or by task and variation; empty for None. Raises ConfigurationError for anything else."""
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_BYTES} bytes: a mapping of sentences is smaller")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({error.strerror}): name a mapping of sentences") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ConfigurationError(f"{path} is no JSON or YAML ({reason:.80}): name a mapping of sentences") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must map tasks to sentences, is a {type(content).__name__}")
    return {str(key): _checked(path, str(key), value) for key, value in content.items()}


def _checked(path: Path, task: str, value: object) -> tuple[str, ...]:
    sentences = [value] if isinstance(value, str) else value
    fine = (
        isinstance(sentences, list)
        and 0 < len(sentences) <= MAX_SENTENCES
        and all(isinstance(s, str) and s.strip() and s.isprintable() and len(s) <= MAX_TEXT for s in sentences)
    )
    if not fine or not isinstance(sentences, list):
        raise ConfigurationError(f"{path}: {task!r:.60} must have one or more sentences, has {value!r:.60}")
    return tuple(sentences)


def sentences_of(mapping: Sentences, task: str, variation: int) -> tuple[str, ...]:
    """The sentences of a task's variation; its name as a sentence where the mapping has none, which is said."""
    for key in (f"{task}+{variation}", task):
        if key in mapping:
            return mapping[key]
    plain = task
    for suffix in SUFFIXES:
        plain = plain.removesuffix(suffix)
    sentence = plain.replace("_", " ").strip() or task
    print(f"no sentence for {task}+{variation}: its name is used, '{sentence}'", file=sys.stderr)
    return (sentence,)
