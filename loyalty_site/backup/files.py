"""A backup is two files: the dump, and beside it a manifest that says what is in it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from loyalty_site.backup.fingerprints import Fingerprint
from loyalty_site.backup.refusals import FileRefused

FORMAT = 1
SUFFIX = ".manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a dump holds, so that a restored database can be compared with the one that it came from."""

    made_at: str
    server_version: int
    dump_bytes: int
    dump_sha256: str
    migrations: list[str]
    tables: dict[str, Fingerprint]
    format: int = FORMAT


def manifest_of(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Give a file of ours to fill, and move it to its place when all went well. Nobody else may read it.

    Raises:
        FileRefused: the folder does not let us write.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 600
    except OSError as error:
        raise FileRefused(f"{file} cannot be written: {error.strerror}.") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(file)
        _to_disk(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe(dump: Path) -> tuple[int, str]:
    """How long a file is, and its SHA-256."""
    with dump.open("rb") as content:
        return dump.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest()


def write_manifest(manifest: Manifest, file: Path) -> None:
    with written_whole(manifest_of(file)) as temporary:
        temporary.write_text(json.dumps(asdict(manifest), indent=1) + "\n")


def read_manifest(file: Path) -> Manifest:
    """The manifest of a dump that is whole.

    Raises:
        FileRefused: one of the two files is missing, was cut or changed, or is none of ours.
    """
    manifest = _parsed(manifest_of(file), file)
    if not file.is_file():
        raise FileRefused(f"There is no file {file}.")
    size, digest = describe(file)
    if size < manifest.dump_bytes:
        raise FileRefused(f"{file} was cut off: it has {size:,} of {manifest.dump_bytes:,} bytes.")
    if (size, digest) != (manifest.dump_bytes, manifest.dump_sha256):
        raise FileRefused(f"{file} is not the dump that its manifest describes.")
    return manifest


def made_at(path: Path) -> datetime:
    """When the backup of a manifest was made. The manifest says it: a copy is younger than what is in it.

    Raises:
        FileRefused: it cannot be read, or is none of ours.
    """
    try:
        moment = datetime.fromisoformat(_parsed(path, path).made_at)
        if moment.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError):
        raise FileRefused(f"{path} does not say when its backup was made.") from None
    return moment


def _parsed(path: Path, file: Path) -> Manifest:
    try:
        words = json.loads(path.read_text())
        tables = {name: Fingerprint(int(rows), str(total)) for name, (rows, total) in words.pop("tables").items()}
        manifest = Manifest(**words, tables=tables)
    except FileNotFoundError:
        raise FileRefused(f"{file} is no backup of ours: {path.name} is not beside it.") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise FileRefused(f"{path} cannot be read, or is no manifest of a backup.") from None
    if manifest.format != FORMAT:
        raise FileRefused(f"{path} was written by another release: its format is {manifest.format}, not {FORMAT}.")
    return manifest
