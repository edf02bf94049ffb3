"""HDF5 files from elsewhere, read for their arrays of numbers and nothing else.

Only hard links are followed: a soft or an external link could lead to another file. Arrays whose data lie in other
files (virtual and external ones), references, texts and arrays of varying length are refused, and so are filters that
a plugin would have to undo. The size that an array claims, and that of its chunks, which are unpacked whole, are
compared with limits before anything is read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.converters.optional import need

# One cloud: 2 million points in double precision.
MAX_ARRAY_BYTES = 2**26
MAX_CHUNK_BYTES = 2**26
MAX_NAMES = 100_000
DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
FILTERS = {DEFLATE, SHUFFLE, FLETCHER32, LZF}


class GuardedFile:
    """A file open for reading; a context manager. Raises EpisodeError for what is no HDF5 file."""

    def __init__(self, path: Path) -> None:
        self._h5py = need("h5py", "reading HDF5")
        self.path = path
        try:
            self._file = self._h5py.File(path, "r")
        except Exception as error:  # h5py raises OSError, ValueError, RuntimeError and KeyError for damaged files
            raise EpisodeError(f"{path} cannot be read as HDF5 ({_line(error)})") from None

    def __enter__(self) -> GuardedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def names(self, group: str) -> list[str]:
        """The names in a group, without following them. Raises EpisodeError where there is no such group."""
        found = self._followed(group)
        if not isinstance(found, self._h5py.Group):
            raise EpisodeError(f"{self.path} has no group '{group}'")
        try:
            count = len(found)
            if count > MAX_NAMES:
                raise EpisodeError(f"{self.path}: '{group}' has {count} entries, at most {MAX_NAMES} are read")
            return [str(name) for name in found]
        except EpisodeError:
            raise
        except Exception as error:
            raise EpisodeError(f"{self.path}: '{group}' cannot be read ({_line(error)})") from None

    def groups(self, group: str) -> list[str]:
        """The names of the groups in a group. Raises EpisodeError where one leads elsewhere."""
        return [name for name in self.names(group) if isinstance(self._followed(f"{group}/{name}"), self._h5py.Group)]

    def array(self, path: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """The array at `path`, of a type of one of `kinds` and a shape that fits: None stands for any length.

        Raises EpisodeError saying what is there instead.
        """
        found = self._followed(path)
        if not isinstance(found, self._h5py.Dataset):
            raise EpisodeError(f"{self.path} has no array '{path}'")
        try:
            self._check(path, found, kinds, shape)
            array: NDArray[Any] = found[()] if found.shape == () else found[...]
        except EpisodeError:
            raise
        except Exception as error:
            raise EpisodeError(f"{self.path}: '{path}' cannot be read ({_line(error)})") from None
        return np.asarray(array)

    def _check(self, path: str, found: Any, kinds: str, shape: tuple[int | None, ...]) -> None:
        dtype, actual = found.dtype, found.shape
        fits = actual is not None and len(actual) == len(shape)
        if dtype.kind not in kinds or not fits or any(n not in (None, m) for n, m in zip(shape, actual, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            raise EpisodeError(f"{self.path}: '{path}' must have the shape ({expected}), is {dtype} {actual}")
        plan = found.id.get_create_plist()
        if found.is_virtual or plan.get_external_count():
            raise EpisodeError(f"{self.path}: the data of '{path}' lie in another file, which is not opened")
        filters = {plan.get_filter(n)[0] for n in range(plan.get_nfilters())}
        if filters - FILTERS:
            raise EpisodeError(
                f"{self.path}: '{path}' is packed with filter {min(filters - FILTERS)}: use gzip or none"
            )
        size, chunk = math.prod(actual) * dtype.itemsize, math.prod(found.chunks or ()) * dtype.itemsize
        if size > MAX_ARRAY_BYTES or chunk > MAX_CHUNK_BYTES:
            raise EpisodeError(
                f"{self.path}: '{path}' claims {size} bytes in chunks of {chunk}, at most {MAX_ARRAY_BYTES} are read"
            )

    def _followed(self, path: str) -> Any:
        """The object at a path of hard links."""
        found = self._file
        for name in filter(None, path.split("/")):
            if not isinstance(found, self._h5py.Group) or name == "..":
                return None
            try:
                link = found.get(name, getlink=True)
                if link is not None and not isinstance(link, self._h5py.HardLink):
                    raise EpisodeError(
                        f"{self.path}: '{name}' in '{path}' is a link to elsewhere, which is not followed"
                    )
                found = None if link is None else found[name]
            except EpisodeError:
                raise
            except Exception as error:
                raise EpisodeError(f"{self.path}: '{path}' cannot be read ({_line(error)})") from None
        return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
