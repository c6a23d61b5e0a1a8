"""Models of the Hugging Face hub as local folders, with the cache, token, mirrors and so on of huggingface_hub."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from .conversion import CheckpointError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
# The files that may hold the weights, best first; an index names several.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def fetch(address: str) -> Path:
    """Return the folder with the files of ``hf://owner/name`` or ``hf://owner/name@revision``, downloading them first.

    All files are of the same commit. What arrives is compared with the hash that the hub gives for it. What is in the
    cache is used if the hub is not reached.

    Raises:
        CheckpointError: the address is malformed, or the hub refuses it, has no such model, is not reached, or sends
            something else than it announced.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?", address)
    if match is None:
        raise CheckpointError(f"Expected hf://owner/name or hf://owner/name@revision; received {address!r}.")
    with _explaining(address):
        config, online = _config(match[1], match[2])
        download = functools.partial(_download, match[1], config.parent.name, online)
        download(PROCESSOR)
        for name in WEIGHT_FILES:
            file = download(name)
            if file is not None:
                for shard in _shards(file) if name.endswith(".json") else ():
                    download(shard)
                return config.parent
        place = "on the hub" if online else "in the cache, and the hub is not reached"
        raise CheckpointError(f"it has no weights: none of {', '.join(WEIGHT_FILES)} is {place}.")


def _config(repository: str, revision: str | None) -> tuple[Path, bool]:
    """config.json in the folder of the commit that a revision stands for; whether the hub said so, not the cache."""
    import huggingface_hub
    from huggingface_hub.utils import HfHubHTTPError

    known = huggingface_hub.try_to_load_from_cache(repository, CONFIG, revision=revision)
    try:
        _ask(repository, CONFIG, revision)
    except HfHubHTTPError:
        raise
    except Exception:  # no answer, or offline mode
        if isinstance(known, str):
            return Path(known), False
        raise
    return Path(huggingface_hub.hf_hub_download(repository, CONFIG, revision=revision)), True


def _ask(repository: str, name: str, revision: str | None) -> None:
    """Ask the hub whether it has a file; hf_hub_download would repeat the question without any timeout."""
    import huggingface_hub
    from huggingface_hub import constants

    url = huggingface_hub.hf_hub_url(repository, name, revision=revision)
    huggingface_hub.get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _download(repository: str, commit: str, online: bool, name: str) -> Path | None:
    """One file, from the cache or the hub; None if it is not there."""
    import huggingface_hub
    from huggingface_hub.utils import EntryNotFoundError

    known = huggingface_hub.try_to_load_from_cache(repository, name, revision=commit)
    if isinstance(known, str):
        return Path(known)
    if not online:
        return None
    try:
        _ask(repository, name, commit)
    except EntryNotFoundError:
        return None
    path = Path(huggingface_hub.hf_hub_download(repository, name, revision=commit))
    _verify(path)
    return path


def _shards(index: Path) -> list[str]:
    """The files that an index names; what is wrong with it is told by the reader, once it is here."""
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted(name for name in names if re.fullmatch(r"[\w-][\w.-]*", str(name)))


def _verify(path: Path) -> None:
    """Compare a file with its SHA-256, by which the cache names what the hub keeps as large files."""
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return
    with open(blob, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        path.unlink()
        blob.unlink()
        raise CheckpointError(
            f"{path.name} arrived damaged: its SHA-256 is {digest}, the hub announced {blob.name}. It was deleted; try "
            "again, and if it happens again suspect the mirror or proxy."
        )


@contextlib.contextmanager
def _explaining(address: str) -> Iterator[None]:
    """Let errors of the hub say what they mean for the user."""
    from huggingface_hub import utils

    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{address}: {error}") from error
    except utils.GatedRepoError as error:
        reason = "its owner grants access on request: ask on its page, then log in (`hf auth login` or HF_TOKEN)"
        raise CheckpointError(f"{address} cannot be downloaded: {reason}.") from error
    except utils.RepositoryNotFoundError as error:
        reason = "there is no such model, or it is private; check the name, and HF_TOKEN if it is private"
        raise CheckpointError(f"{address} cannot be downloaded: {reason}.") from error
    except utils.RevisionNotFoundError as error:
        raise CheckpointError(f"{address} cannot be downloaded: it has no such revision.") from error
    except utils.EntryNotFoundError as error:
        raise CheckpointError(f"{address} cannot be downloaded: it has no {CONFIG}.") from error
    except Exception as error:  # requests' or httpx's, depending on the version of huggingface_hub
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = _REASONS.get(
            status, "the hub is not reached, or the transfer broke off; try again, or set HF_ENDPOINT"
        )
        cause = f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
        raise CheckpointError(f"{address} cannot be downloaded: {reason}. {cause}") from error


_REASONS = {
    401: "the hub wants a token: `hf auth login`, or HF_TOKEN",
    403: "the token does not give access to it",
    429: "there were too many requests; wait, or log in for a higher limit",
}
