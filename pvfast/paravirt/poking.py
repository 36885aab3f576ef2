"""The stores that patch a running kernel: a site and a patch function go in, what is written where and when comes out.

Linux 2.6.20 to 2.6.22 patched in place: ``patch`` wrote its code over the site, and then ``nop_out`` filled the rest,
a chunk at a time. Between two of these stores the site is neither the old code nor the new. That is harmless as long
as nothing executes it, which held until storing meant ``text_poke``, which looks the page up, which calls
``pgd_val``: a site itself. From 2.6.23 on ``patch`` gets a copy of the site in a buffer, the rest is filled there, and
one ``text_poke`` stores all of it (commit ab144f5ec64). Both ways end with the bytes of `patch_site`.
Next: ``alternatives.py``.
"""

from pvfast.assembly.nops import NOP_MAX, nops
from pvfast.paravirt.patcher import PatchFunction, patch_site
from pvfast.paravirt.sites import PatchSite

#: Stores in order: linear address and bytes.
Pokes = tuple[tuple[int, bytes], ...]


def in_place_pokes(site: PatchSite, insns: bytes, patch: PatchFunction, nop_family: str = "generic") -> Pokes:
    """How 2.6.20 to 2.6.22 patch a site: the code, then the NOPs.

    Parameters
    ----------
    site, insns, patch, nop_family
        As for `pvfast.paravirt.patcher.patch_site`.

    Returns
    -------
    tuple of (int, bytes)
        Empty when the patch function leaves the site as it is.

    Raises
    ------
    PatchError
        As `patch_site` does.

    Examples
    --------
    >>> site = PatchSite(0x1000, 0, 10, 1)
    >>> [(hex(at), code.hex(" ")) for at, code in in_place_pokes(site, bytes(10), lambda *_: b"\\xfa")]
    [('0x1000', 'fa'), ('0x1001', '90 8d b4 26 00 00 00 00'), ('0x1009', '90')]
    """
    done = patch_site(site, insns, patch, nop_family)
    code = patch(site.type, site.clobbers, insns, site.address)
    if code is None:
        return ()
    pokes = [(site.address, code)] if code else []
    for used in range(len(code), len(done), NOP_MAX):
        chunk = nops(nop_family, min(NOP_MAX, len(done) - used))
        pokes.append((site.address + used, chunk))
    return tuple(pokes)


def buffered_pokes(site: PatchSite, insns: bytes, patch: PatchFunction, nop_family: str = "generic") -> Pokes:
    """How 2.6.23 and later patch a site: all of it at once.

    Parameters
    ----------
    site, insns, patch, nop_family
        As for `pvfast.paravirt.patcher.patch_site`.

    Returns
    -------
    tuple of (int, bytes)
        One store.

    Examples
    --------
    >>> site = PatchSite(0x1000, 0, 10, 1)
    >>> [(hex(at), code.hex(" ")) for at, code in buffered_pokes(site, bytes(10), lambda *_: b"\\xfa")]
    [('0x1000', 'fa 90 8d b4 26 00 00 00 00 90')]
    """
    return ((site.address, patch_site(site, insns, patch, nop_family)),)
