"""Typed errors: every failure that pvfast reports on purpose is one of these classes.

Each message says where (an address, or file and line), what is wrong, and what to do next.
"""


class PvfastError(Exception):
    """Base of every error that pvfast raises on purpose."""


class AddressError(PvfastError, ValueError):
    """An address or range does not name guest memory."""


class ArgumentError(PvfastError, ValueError):
    """A number or an object is not one that the call takes."""


class MemoryMapError(PvfastError, ValueError):
    """A region overlaps another, is not made of whole pages, or does not fit into 4 GiB."""


class MachineBusy(PvfastError, RuntimeError):
    """The machine runs in another thread."""


class SnapshotError(PvfastError, ValueError):
    """A snapshot does not belong to a machine like this one."""


class ImageError(PvfastError):
    """A kernel image, or a table inside it, is broken or not supported."""


class PatchError(PvfastError):
    """A patch site or a replacement breaks a rule of patching."""


class AssemblyError(PvfastError):
    """Source text could not be assembled."""


class GuestError(PvfastError):
    """The guest did not do what an experiment asked of it: it faulted, halted or ran past its budget."""
