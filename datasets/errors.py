"""The errors of the data room."""

from __future__ import annotations


class DataError(RuntimeError):
    """Data that cannot be read or do not fit together; the message names the file or the element."""


class FetchError(DataError):
    """A file that could not be downloaded; the message lists what was wrong with each address."""
