"""Errors of the cache that a user can mend."""

from kerasxfer_serving.errors import KerasxferError


class CacheError(KerasxferError):
    """The cache cannot be built, read or trusted; the message says what to do about it."""


class BoundaryError(CacheError, ValueError):
    """A model with no place to cache at: no activation that stays the same for the same image."""
