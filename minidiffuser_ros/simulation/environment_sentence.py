"""The space of instructions, which stay right in the shared memory of gymnasium's AsyncVectorEnv.

That one reads a text out of the memory once, when it is made, as if it were an array that shows what is written there
later; every observation would repeat what stood there then.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from gymnasium.spaces import Text
from gymnasium.vector.utils import read_from_shared_memory

MAX_LENGTH = 160
CHARACTERS = string.ascii_letters + string.digits + " ,.;:!?'\"()-"


class Sentence(Text):
    """English sentences."""

    def __init__(self) -> None:
        super().__init__(MAX_LENGTH, charset=CHARACTERS)


class _LiveSentences:
    """What stands in a shared memory whenever it is looked at; a copy is what stands there now."""

    def __init__(self, read: Callable[[], tuple[str, ...]]) -> None:
        self._read = read

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: int) -> str:
        return self._read()[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return self._read()


@read_from_shared_memory.register(Sentence)
def _read_sentences(space: Sentence, shared_memory: Any, n: int = 1) -> _LiveSentences:
    read: Callable[..., Any] = read_from_shared_memory.dispatch(Text)
    return _LiveSentences(lambda: tuple(read(space, shared_memory, n)))
