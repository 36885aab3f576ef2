"""What a kernel's boot makes of its patch sites: an image enters, the bytes of each site afterwards leave.

The one entry for all versions: it chooses the procedure, ``native_patch.py`` (2.6.24 to 5.12) or
``alternatives_patch.py`` (5.13 to 6.7), and lets ``xen_boot.py`` change what it starts from. Next: ``listing.py``.
"""

from pvfast.errors import PatchError
from pvfast.images.altinstructions import read_alternatives
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import pointer_of, read_sites, structure_at
from pvfast.paravirt.linux.alternatives_patch import BARE_HARDWARE, AlternativesPatcher, CpuFeatures, xen_guest
from pvfast.paravirt.linux.native_patch import NativePatcher
from pvfast.paravirt.linux.site_patcher import BootPatch, SitePatcher
from pvfast.paravirt.linux.xen_boot import XEN_PV_ENTRY, XEN_SINCE, xen_members

#: First versions: of a patch function that is given a buffer and an address, of alternatives over sites, and of no
#: ``.parainstructions`` any more.
NATIVE_PATCH_SINCE, ALTERNATIVES_SINCE, UNTIL = (2, 6), (5, 13), (6, 8)

#: What a kernel can boot on.
HYPERVISORS = ("native", "xen")

CPUS = {"generic": "any 32-bit processor that Linux gives no other NOPs", "k7": "AMD K7 (32-bit kernels)",
        "k8": "AMD K8; before 5.13 also Intel Core 2 to Sandy Bridge, and QEMU's qemu64",
        "p6": "the others: Intel since Ivy Bridge, AMD since family 10h; every 64-bit kernel from 5.13 on"}
"""Families of NOPs by the processors for which Linux chooses them; see `pvfast.assembly.nops`."""


def default_cpu(bits: int) -> str:
    """What is assumed when nobody says: the current processors in 64-bit kernels, any in 32-bit ones.

    Examples
    --------
    >>> default_cpu(32), default_cpu(64)
    ('generic', 'p6')
    """
    return "generic" if bits == 32 else "p6"


def boot_patch(
    image: KernelImage, features: CpuFeatures | None = None, cpu: str | None = None, *,
    hypervisor: str = "native", vcpus: int | None = None,
) -> BootPatch:
    """Compute what the kernel's own boot makes of every patch site.

    Parameters
    ----------
    image : KernelImage
        An opened kernel, Linux 2.6.24 to 6.7.
    features : CpuFeatures, optional
        What the processor is known to have and to lack; what the hypervisor gives unless said.
    cpu : str, optional
        One of `CPUS`: which NOPs fill the sites. `default_cpu` unless given.
    hypervisor : {"native", "xen"}, optional
        What the kernel boots on: bare hardware, or Xen as a PV guest (dom0 or domU; x86-64 since 4.20).
    vcpus : int, optional
        Virtual CPUs that Xen gives. Sites of spinlocks depend on whether there are several: undecided unless given.

    Returns
    -------
    BootPatch
        Every site before and after. For other kernels every site is undecided and says why.

    Raises
    ------
    ImageError
        A table of the image is missing or damaged.
    PatchError
        `cpu` or `hypervisor` is none of those.
    """
    if hypervisor not in HYPERVISORS:
        raise PatchError(f"no hypervisor {hypervisor!r}: it is one of {', '.join(HYPERVISORS)}")
    sites = read_sites(image)
    family = cpu or default_cpu(image.bits)
    if image.version is None or not NATIVE_PATCH_SINCE <= image.version < UNTIL:
        unknown = SitePatcher(image, sites, family)
        unknown.refuse_all("how this kernel patches itself is known for Linux 2.6.24 to 6.7 only; this is "
                           + (image.banner or "a kernel without a version banner"))
        return unknown.result()
    on_xen = hypervisor == "xen"
    patcher = (NativePatcher if image.version < ALTERNATIVES_SINCE else AlternativesPatcher)(image, sites, family)
    if on_xen and (reason := _no_xen_guest(patcher)):
        patcher.refuse_all(reason)
        return patcher.result()
    pv_ops = structure_at({site: pointer_of(image, site) for site in sites}, image.word_bytes) if on_xen else None
    if pv_ops is not None:
        patcher.members = xen_members(image, patcher.symbols, pv_ops, vcpus)
    if isinstance(patcher, NativePatcher):
        patcher.apply_paravirt(inlines=not on_xen)
    else:
        patcher.apply_paravirt()
        known = features or (xen_guest(vcpus) if on_xen else BARE_HARDWARE)
        patcher.apply_alternatives(read_alternatives(image), known)
    return patcher.result()


def _no_xen_guest(patcher: SitePatcher) -> str:
    """Why nothing is known of this kernel as a Xen PV guest; empty when it is."""
    image = patcher.image
    if image.bits != 64 or image.version is None or image.version < XEN_SINCE:
        return "what a Xen PV guest makes of its sites is known for x86-64 kernels from Linux 4.20 on only"
    if XEN_PV_ENTRY not in image.xen_notes:
        return "this kernel cannot be a Xen PV guest: it has no Xen note that says where to enter it"
    if not patcher.symbols:
        return "Xen's functions are known by symbols, which cannot be read from this image"
    return ""
