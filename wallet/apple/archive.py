"""Zip files of a few small files, as they are.

Passes of a program differ in three of their files. The records of the others are made once; zipfile makes them anew
for each pass, which takes as long as signing it.
"""

import zlib
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct

LOCAL, CENTRAL, END = Struct("<4s5H3L2H"), Struct("<4s6H3L5HL"), Struct("<4s4H2LH")
VERSION = 20
AS_IT_IS = (0, 0)  # no flags, no compression
BEGINNING = (0, 0x21)  # the first moment that a zip file knows, so that equal files make equal archives
RECORDS_KEPT = 1024


def archive(own: Mapping[str, bytes], *, shared: Mapping[str, bytes]) -> bytes:
    """Both kinds of files in their order, under names in ASCII; the shared ones are remembered."""
    described = [(name, content, *_described(name, content)) for name, content in own.items()]
    described += [(name, content, *_remembered(name, content)) for name, content in shared.items()]
    parts, directory, offset = [], [], 0
    for name, content, record, entry in described:
        parts += [record, content]
        directory += [entry, offset.to_bytes(4, "little"), name.encode()]
        offset += len(record) + len(content)
    listed = b"".join(directory)
    end = END.pack(b"PK\5\6", 0, 0, len(described), len(described), len(listed), offset, 0)
    return b"".join([*parts, listed, end])


def _described(name: str, content: bytes) -> tuple[bytes, bytes]:
    """What stands before a file, and its entry in the directory up to where it says the place."""
    sizes = zlib.crc32(content), len(content), len(content)
    record = LOCAL.pack(b"PK\3\4", VERSION, *AS_IT_IS, *BEGINNING, *sizes, len(name), 0) + name.encode()
    entry = CENTRAL.pack(b"PK\1\2", VERSION, VERSION, *AS_IT_IS, *BEGINNING, *sizes, len(name), 0, 0, 0, 0, 0)
    return record, entry


_remembered = lru_cache(maxsize=RECORDS_KEPT)(_described)
