"""Unpacking of archives that nobody has vouched for: no way out of the folder, no bombs, all or nothing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from .errors import DataError
from .fetch import find

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)
BLOCK = 512  # what a member takes at least: a header of a tar archive
STREAMS: dict[str, Callable[..., IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# A member: its name, and its opened content, or None for a folder.
Member = tuple[str, IO[bytes] | None]


def unpack(archive: str | os.PathLike, folder: str | os.PathLike, max_bytes: int | None = None) -> Path:
    """Unpack a zip or tar archive (plain, gz, bz2, xz), or a single compressed file, and return ``folder``.

    A folder that exists is taken as unpacked before: it only ever appears complete. ``max_bytes`` bounds
    what may come out; by default 100 times the archive, and at least 1 GiB.

    Raises:
        DataError: for a damaged archive, one that outgrows the bound, and one with absolute paths, ``..``,
        links,
            devices or a name twice. Nothing is left behind.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    if max_bytes is None:
        max_bytes = max(2**30, 100 * archive.stat().st_size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        content = Path(temporary, "content")
        content.mkdir()
        try:
            _extract(_members(archive), content, max_bytes)
        except DataError as error:
            raise DataError(f"{archive} was not unpacked: {error}") from error
        except BROKEN as error:
            raise DataError(
                f"{archive} is damaged or no archive of a known kind ({type(error).__name__}: {error}). "
                "Delete it, so that it is downloaded again."
            ) from error
        try:
            content.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def unpacked(folder: Path, inner: str, archive: str) -> Path:
    """Return ``inner`` as it stands in ``folder``, or out of the published ``archive`` there."""
    found = find(folder, inner, archive)
    if found.name == archive:
        return find(unpack(found, folder / f"{archive}.unpacked"), inner)
    return found


def _extract(members: Iterator[Member], folder: Path, max_bytes: int) -> None:
    left = max_bytes
    for name, stream in members:
        path = folder / _safe(name)
        left -= BLOCK
        if stream is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with stream, _create(path, name) as output:
                left -= _copy(stream, output, left)
        if left < 0:
            raise DataError(f"more than the {max_bytes} bytes expected at most come out of it (max_bytes).")


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy until the source ends or ``limit`` is passed; return the number of bytes."""
    copied = 0
    while copied <= limit and (block := source.read(1 << 18)):
        target.write(block)
        copied += len(block)
    return copied


def _create(path: Path, name: str) -> IO[bytes]:
    try:
        return open(path, "xb")
    except FileExistsError:
        raise DataError(f"it holds {name!r} twice.") from None


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    drive = any(":" in part for part in path.parts[:1])
    if path.is_absolute() or drive or ".." in path.parts or "\\" in name or "\0" in name:
        raise DataError(f"its member {name!r} would be written outside of the folder.")
    return path


def _members(archive: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        return _zip_members(archive)
    if archive.suffix in STREAMS and not archive.stem.endswith(".tar"):
        return iter([(archive.stem, STREAMS[archive.suffix](archive, "rb"))])
    if tarfile.is_tarfile(archive):
        return _tar_members(archive)
    raise DataError("it is neither a zip nor a tar archive, nor a .gz, .bz2 or .xz file.")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"its member {info.filename!r} is a link or a device.")
            yield info.filename, None if info.is_dir() else opened.open(info)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            if not (info.isfile() or info.isdir()):
                raise DataError(f"its member {info.name!r} is a link or a device.")
            yield info.name, opened.extractfile(info)
