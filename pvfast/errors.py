"""Typed errors: every failure that pvfast reports on purpose is one of these classes.

Each message says where (an address, or file and line), what is wrong, and what to do next.
"""


class PvfastError(Exception):
    """Base of every error that pvfast raises on purpose."""


class ImageError(PvfastError):
    """A kernel image, or a table inside it, is broken or not supported."""


class PatchError(PvfastError):
    """A patch site or a replacement breaks a rule of patching."""


class AssemblyError(PvfastError):
    """Source text could not be assembled."""
