"""Naming patch sites: a kernel image enters, the names of its operations by type number leave.

Which table applies is read from the image (its version banner, its bitness, its Xen notes). A kernel whose
table is not written down keeps its numbers: a name is never guessed. Next: ``listing.py`` prints the names.
"""

from pvfast.images.kernel import KernelImage
from pvfast.paravirt.linux import operations_6_1

#: What an operation without a known name is called in listings.
UNKNOWN = "unknown"

#: XEN_ELFNOTE_ENTRY: only a kernel that can be a Xen PV guest has it, so CONFIG_PARAVIRT_XXL is on.
_XEN_PV_ENTRY = 1


def operation_names(image: KernelImage) -> tuple[str, ...] | None:
    """The operations of a kernel's ``pv_ops``, in type order.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.

    Returns
    -------
    tuple of str or None
        None when the kernel's table is not known.
    """
    if image.version != (6, 1):
        return None
    if image.bits == 32:
        return operations_6_1.I386
    return operations_6_1.X86_64 if _XEN_PV_ENTRY in image.xen_notes else None


def operation_name(image: KernelImage, type_number: int) -> str | None:
    """The operation that a site's type stands for, or None when that is not known.

    Parameters
    ----------
    image : KernelImage
        An opened kernel.
    type_number : int
        The type field of a site record.

    Returns
    -------
    str or None
        For example ``"irq.save_fl"``.
    """
    names = operation_names(image)
    return names[type_number] if names and 0 <= type_number < len(names) else None
