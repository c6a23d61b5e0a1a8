"""Downloads to be trusted: mirrors, checksums, resumption, and nothing half-done under the final name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError, FetchError

ATTEMPTS = 3  # per address, as long as each brings the file further
CHUNK = 1 << 18  # bytes


@dataclass(frozen=True)
class File:
    """A published file: its name, addresses in order of preference, and ``"md5:…"`` or ``"sha256:…"``."""

    name: str
    urls: tuple[str, ...]
    checksum: str | None = None
    split: str | None = None  # the only split that needs it


def cache_dir() -> Path:
    """Return where downloads are kept: ``$TENZOO_DATA``, or ``tenzoo`` in the user's cache folder."""
    if "TENZOO_DATA" in os.environ:
        return Path(os.environ["TENZOO_DATA"]).expanduser()
    import pooch

    return Path(pooch.os_cache("tenzoo"))


def fetch(
    name: str,
    files: tuple[File, ...],
    data_dir: str | os.PathLike | None = None,
    timeout: float = 30.0,
    verbose: int = 1,
) -> Path:
    """Return the folder with ``files``, downloading what is missing; a ``data_dir`` is taken as it is.

    ``timeout`` is the longest silence of a server, in seconds. ``verbose=0`` shows no progress; without a
    terminal none is shown anyway. An interrupted download goes on where it stopped if the file has a
    checksum.

    Raises:
        FetchError: where no address gives the file that the checksum describes; nothing wrong is left behind.
    """
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            raise DataError(f"data_dir must be the folder that holds {name}; there is no folder {folder}.")
        return folder
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        with _locked(folder / f"{file.name}.lock"):
            if not _verified(folder / file.name, file.checksum):
                _download(file, folder, timeout, verbose)
    return folder


def find(folder: Path, *names: str) -> Path:
    """Return the first of the files or folders ``names`` that stands in ``folder``, or say what does."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise DataError(f"Expected {' or '.join(names)} in {folder}, which holds {present}.")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time download a file; the others wait, and then find it."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once may fail the checksum, and can be repeated
        yield
        return
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _verified(path: Path, checksum: str | None) -> bool:
    if not path.is_file() or checksum is None:
        return path.is_file()
    import pooch

    algorithm, _, digest = checksum.partition(":")
    return pooch.file_hash(str(path), algorithm) == digest.lower()


def _download(file: File, folder: Path, timeout: float, verbose: int) -> None:
    partial = folder / f"{file.name}.part"
    problems = []
    for url in file.urls:
        try:
            _download_from(url, file, partial, timeout, verbose)
            os.replace(partial, folder / file.name)
            return
        except FetchError as error:
            problems.append(f"  {url}: {error}")
    raise FetchError(
        f"Could not download {file.name}:\n" + "\n".join(problems) + "\nCheck the network connection; or put "
        "the file into a folder by other means and give that folder as data_dir."
    )


def _download_from(url: str, file: File, partial: Path, timeout: float, verbose: int) -> None:
    """Bring ``partial`` to the complete, verified file, or raise FetchError."""
    if file.checksum is None:
        partial.unlink(missing_ok=True)  # what could not be verified afterwards is not continued
    for attempt in range(ATTEMPTS):
        begun = partial.stat().st_size if partial.exists() else 0
        try:
            _transfer(url, partial, begun, timeout, verbose)
        except InterruptedTransferError as error:
            reached = partial.stat().st_size if partial.exists() else 0
            if attempt + 1 < ATTEMPTS and reached > begun and file.checksum is not None:
                continue
            raise FetchError(str(error)) from error
        if _verified(partial, file.checksum):
            return
        size = partial.stat().st_size if partial.exists() else 0
        partial.unlink(missing_ok=True)
        if begun == 0:
            raise FetchError(f"the {size} bytes received do not have the published checksum {file.checksum}")
    raise FetchError("the transfer broke off again and again")


class InterruptedTransferError(FetchError):
    """A transfer that broke off, and may be continued."""


def _transfer(url: str, partial: Path, begun: int, timeout: float, verbose: int) -> None:
    """Append to ``partial`` what follows its first ``begun`` bytes; start over if the server cannot."""
    import requests
    import urllib3

    # Compression on the way would make byte positions and the size meaningless.
    headers = {"Accept-Encoding": "identity", "User-Agent": "tenzoo"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416:  # there is nothing after these bytes: complete, or not ours
                return
            if response.status_code not in (200, 206):
                raise FetchError(f"the server answered {response.status_code} {response.reason}")
            if response.status_code == 200:
                begun = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
                partial.unlink()
                raise FetchError("the server sent another part of the file than it was asked for")
            _write(response, partial, begun, verbose)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise InterruptedTransferError(f"the transfer broke off ({error})") from error


def _write(response, partial: Path, begun: int, verbose: int) -> None:
    from tqdm import tqdm

    length = response.headers.get("Content-Length", "")
    total = begun + int(length) if length.isdigit() else None
    # `disable=None` shows the bar on a terminal only.
    bar = tqdm(
        desc=partial.stem,
        initial=begun,
        total=total,
        unit="B",
        unit_scale=True,
        disable=None if verbose else True,
    )
    chunks = response.raw.stream(CHUNK, decode_content=False)
    chunk = next(chunks, b"")
    if begun == 0:
        _refuse_page(response.headers.get("Content-Type", ""), chunk)
    with bar, open(partial, "ab" if begun else "wb") as output:
        while chunk:
            output.write(chunk)
            bar.update(len(chunk))
            chunk = next(chunks, b"")


def _refuse_page(content_type: str, beginning: bytes) -> None:
    start = beginning[:512].lstrip().lower()
    if "text/html" in content_type.lower() or start.startswith((b"<!doctype html", b"<html")):
        raise FetchError(
            "the server answered with an HTML page where the file should be; "
            "it may ask for a login or a confirmation, or have moved the file: open the address in a browser"
        )
