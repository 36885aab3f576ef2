"""What a kernel's boot makes of its patch sites: an image enters, the bytes of each site afterwards leave.

The one entry for all versions: it chooses the procedure, ``native_patch.py`` (2.6.24 to 5.12) or
``alternatives_patch.py`` (5.13 to 6.7). Next: ``listing.py``.
"""

from pvfast.images.altinstructions import read_alternatives
from pvfast.images.kernel import KernelImage
from pvfast.images.parainstructions import read_sites
from pvfast.paravirt.linux.alternatives_patch import BARE_HARDWARE, AlternativesPatcher, CpuFeatures
from pvfast.paravirt.linux.native_patch import NativePatcher
from pvfast.paravirt.linux.site_patcher import BootPatch, SitePatcher

#: First versions: of a patch function that is given a buffer and an address, of alternatives over sites, and of no
#: ``.parainstructions`` any more.
NATIVE_PATCH_SINCE, ALTERNATIVES_SINCE, UNTIL = (2, 6), (5, 13), (6, 8)

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
    image: KernelImage, features: CpuFeatures = BARE_HARDWARE, cpu: str | None = None
) -> BootPatch:
    """Compute what the kernel's own boot on bare hardware makes of every patch site.

    Parameters
    ----------
    image : KernelImage
        An opened kernel, Linux 2.6.24 to 6.7.
    features : CpuFeatures, optional
        What the processor is known to have and to lack.
    cpu : str, optional
        One of `CPUS`: which NOPs fill the sites. `default_cpu` unless given.

    Returns
    -------
    BootPatch
        Every site before and after. For other kernels every site is undecided and says why.

    Raises
    ------
    ImageError
        A table of the image is missing or damaged.
    """
    sites = read_sites(image)
    family = cpu or default_cpu(image.bits)
    patcher: SitePatcher
    if image.version is None or not NATIVE_PATCH_SINCE <= image.version < UNTIL:
        patcher = SitePatcher(image, sites, family)
        patcher.refuse_all("how this kernel patches itself is known for Linux 2.6.24 to 6.7 only; this is "
                           + (image.banner or "a kernel without a version banner"))
    elif image.version < ALTERNATIVES_SINCE:
        patcher = native = NativePatcher(image, sites, family)
        native.apply_paravirt()
    else:
        patcher = alternatives = AlternativesPatcher(image, sites, family)
        alternatives.apply_paravirt()
        alternatives.apply_alternatives(read_alternatives(image), features)
    return patcher.result()
