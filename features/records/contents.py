"""Has this text been read before? A digest of each stretch of a file, and a sum that does not mind the order of lines.

Polars hashes all lines of a stretch at once, several times as fast as hashing them one by one. Its hashes hold for one
version of polars only: under another, everything looks new and is read again, and comes out the same. They are not
made to withstand an adversary; that they start from a number drawn from the key makes them hard to aim at.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from features.privacy.keys import Key
from features.records.reading import SourceFile, Stretch

_NEWLINE = ord("\n")
SUMS_END = 1 << 64  # sums are taken modulo this

CONTENTS = {"digest": pl.Binary, "content": pl.UInt64}


class Contents(NamedTuple):
    """What a stretch says: `digest` in its order, `content` the sum of its lines' hashes, in any order."""

    digest: bytes
    content: int


def contents_of(key: Key, file: SourceFile, stretches: Sequence[Stretch]) -> list[Contents]:
    """The digests of stretches of a file's lines, or of a document, which is one whatever its lines."""
    if not stretches:
        return []
    texts = [_ended(stretch) for stretch in stretches]
    parts = [_cut(text, _ends_of_lines(text) if file.shape == "lines" else [len(text)]) for text in texts]
    hashes = pl.Series(pa.chunked_array(parts)).hash(int.from_bytes(key.contents[:8])).to_numpy()
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [
        Contents(hashlib.blake2b(own.tobytes(), digest_size=16).digest(), int(own.sum()))
        for own in np.split(hashes, ends)
    ]


def _ended(stretch: Stretch) -> bytes:
    if stretch.damage:  # a file cut short does not say the same as a whole one
        return stretch.text + b"\n" + stretch.damage.encode() + b"\n"
    return stretch.text if stretch.text.endswith(b"\n") else stretch.text + b"\n"


def _ends_of_lines(text: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE) + 1


def _cut(text: bytes, ends: Sequence[int] | np.ndarray) -> pa.LargeBinaryArray:
    """The pieces of `text` up to each of the ends, not copied."""
    places = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(ends), [None, pa.py_buffer(places), pa.py_buffer(text)]
    )
