"""Messages with arrays in them, as msgpack-numpy packs them: decoded to plain values and arrays of numbers only.

msgpack-numpy packs an array as a map with the keys `nd` (True), `type` (numpy's name of the type), `kind`, `shape`
and `data` (the bytes), and a number of numpy's as one with `nd` False. Arrays of objects are pickles in it: they are
refused, never read. Sizes are compared with the bytes that are there before anything is made of them, and an array
is a view of those bytes.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.converters.optional import need

# One episode: ten steps of four cameras of 512 by 512 pixels with colour, depth and points take 200 MB.
MAX_BYTES = 2**30
MAX_DIMENSIONS = 8
MAX_MAP = 100_000
MAX_LIST = 1_000_000
# Numbers of these kinds and sizes, little or big endian.
KINDS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
ZSTANDARD = b"\x28\xb5\x2f\xfd"
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
GZIP = b"\x1f\x8b\x08"


def decode_message(data: bytes | memoryview) -> dict[str, Any]:
    """The map in `data`, which may be compressed with zlib, gzip or zstandard. Raises EpisodeError for all else."""
    msgpack = need("msgpack", "reading a keystep store")
    try:
        # raw: texts packed before and after msgpack 1.0 differ in their type, so all of them come as bytes.
        content = msgpack.unpackb(
            decompressed(data),
            raw=True,
            object_hook=_decoded,
            ext_hook=_refused_extension,
            strict_map_key=True,
            max_map_len=MAX_MAP,
            max_array_len=MAX_LIST,
        )
    except EpisodeError:
        raise
    except Exception as error:  # msgpack raises a dozen kinds of errors for foreign bytes
        raise EpisodeError(f"the message cannot be read ({type(error).__name__} {error!s:.80})") from None
    if not isinstance(content, dict):
        raise EpisodeError(f"the message must be a map of arrays, is a {type(content).__name__}")
    return content


def decompressed(data: bytes | memoryview) -> bytes | memoryview:
    """`data` itself, or what was compressed in it. Raises EpisodeError where it would be larger than MAX_BYTES."""
    if len(data) > MAX_BYTES:
        raise EpisodeError(f"the message has {len(data)} bytes, at most {MAX_BYTES} are read")
    head = bytes(data[:4])
    if head[:2] in ZLIB or head[:3] == GZIP:
        inflater = zlib.decompressobj(wbits=47)  # both headers
        plain = inflater.decompress(data, MAX_BYTES)
        if inflater.unconsumed_tail:
            raise EpisodeError(f"the message grows beyond {MAX_BYTES} bytes when it is decompressed")
        if not inflater.eof:
            raise EpisodeError("the compressed message is cut off")
        return plain
    if head == ZSTANDARD:
        zstandard = need("zstandard", "reading a store compressed with zstandard")
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(data) as reader:
            plain = reader.read(MAX_BYTES + 1)
        if len(plain) > MAX_BYTES:
            raise EpisodeError(f"the message grows beyond {MAX_BYTES} bytes when it is decompressed")
        return bytes(plain)
    return data


def _refused_extension(code: int, data: bytes) -> Any:
    raise EpisodeError(f"the message has an extension of type {code} with {len(data)} bytes: none is known here")


def _decoded(values: dict[Any, Any]) -> Any:
    """What a map stands for: an array, a number of numpy's, or a map whose keys are text."""
    if b"nd" not in values:
        return {_text(key): value for key, value in values.items()}
    kind, data = values.get(b"kind", b""), values.get(b"data")
    if kind == b"O" or not isinstance(values.get(b"type"), bytes):
        raise EpisodeError("the message has an array of objects or records, which may be a pickle: it is not read")
    if not isinstance(data, bytes):
        raise EpisodeError("the message has an array without data")
    dtype = _number_type(values[b"type"])
    if values[b"nd"] is not True:
        if len(data) != dtype.itemsize:
            raise EpisodeError(f"the message has a number of {len(data)} bytes that is said to be {dtype}")
        return np.frombuffer(data, dtype)[0]
    shape = values.get(b"shape")
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise EpisodeError(f"the message has an array of the shape {shape!r:.60}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise EpisodeError(f"the message has an array said to be {dtype} {shape}, with {len(data)} bytes of data")
    return np.frombuffer(data, dtype).reshape(shape)


def _number_type(name: bytes) -> np.dtype[Any]:
    """The type of numbers named as numpy's array protocol does, such as `<f4`: nothing else is looked up."""
    text = name.decode("ascii", "replace")
    order, kind, size = text[:1], text[1:2], text[2:]
    if order not in "<>|=" or kind not in KINDS or size not in {str(n) for n in KINDS[kind]} or len(text) != 3:
        raise EpisodeError(f"the message has an array of type {text!r:.40}: numbers are read, nothing else")
    return np.dtype(text)


def _text(key: Any) -> str:
    if not isinstance(key, bytes):
        raise EpisodeError(f"the message has a key that is no text: {key!r:.40}")
    return key.decode("utf-8", "replace")


def array_in(content: dict[str, Any], name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The array `name`, of a type of one of `kinds` and a shape that fits: None stands for any length.

    Raises EpisodeError saying what is there instead.
    """
    array = content.get(name)
    if not isinstance(array, np.ndarray):
        raise EpisodeError(f"'{name}' must be an array, is {'missing' if array is None else type(array).__name__}")
    fits = len(shape) == array.ndim and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in kinds or not fits:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise EpisodeError(f"'{name}' must have the shape ({expected}), is {array.dtype} {array.shape}")
    return array
