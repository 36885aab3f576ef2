"""What boot makes of sites, on images small enough to work out by hand."""

import os
import stat
from pathlib import Path

import pytest

from pvfast.errors import ImageError, PatchError
from pvfast.images import load_kernel
from pvfast.paravirt.linux import BARE_HARDWARE, CpuFeatures, boot_patch, patch_csv, write_patched
from pvfast.paravirt.linux.alternatives_patch import PVUNLOCK, VCPUPREEMPT, XENPV
from pvfast.paravirt.linux.naming import operation_name
from pvfast.paravirt.linux.site_patcher import BootPatch

from .synthetic import ALLOC, BASES, TEXT, Kernel

NOT = 0x8000
TEXT_32 = BASES[32] + TEXT
FUNCTION, EMPTY, EMPTY_TOO = TEXT_32 + 0x800, TEXT_32 + 0x900, TEXT_32 + 0x904


def code_with(kernel: Kernel, *functions: tuple[int, bytes]) -> Kernel:
    """The kernel with its sites' calls and these (linear address, bytes) in .text."""
    code = bytearray(b"\xcc" * 0x1000)
    for at, kind, _ in kernel.sites:
        code[at:at + 6] = kernel.call(at, kind)
    for linear, new in functions:
        code[linear - kernel.text:linear - kernel.text + len(new)] = new
    kernel.code = bytes(code)
    return kernel


def patched(
    kernel: Kernel, features: CpuFeatures = BARE_HARDWARE, cpu: str | None = None
) -> BootPatch:
    return boot_patch(load_kernel(kernel.elf()), features, cpu)


def after(kernel: Kernel, features: CpuFeatures = BARE_HARDWARE) -> list[str | None]:
    return [None if site.after is None else site.after.hex() for site in patched(kernel, features).sites]


def reasons(kernel: Kernel) -> list[str]:
    return [site.reason for site in patched(kernel).sites]


@pytest.mark.parametrize("bits", [32, 64])
def test_direct_call(bits: int) -> None:
    target = BASES[bits] + TEXT + 0x800
    kernel = Kernel(bits=bits, sites=((0, 1, 6), (0x900, 0, 6)), pointers=(target, target))
    assert after(kernel) == ["e8fb07000090", "e8fbfeffff90"]
    assert [site.callee for site in patched(kernel).sites] == [target, target]


def test_32_bit_calls_wrap_around() -> None:
    assert after(Kernel(sites=((0, 0, 6),), pointers=(0x00001000,))) == ["e8fbffff3e90"]


def test_a_call_that_does_not_reach() -> None:
    assert "does not fit" in reasons(Kernel(bits=64, sites=((0, 0, 6),), pointers=(0x1000,)))[0]


def test_empty_function_becomes_nops() -> None:
    kernel = Kernel(sites=((0, 0, 6), (8, 1, 6)), pointers=(EMPTY, FUNCTION))
    code_with(kernel, (EMPTY, b"\xc3\x31"), (FUNCTION, b"\x90\xc3"))
    assert after(kernel) == ["8db600000000", "e8f307000090"]


@pytest.mark.parametrize("endbr", [b"", bytes.fromhex("f30f1efa")])
def test_return_thunk_is_known_by_the_list_of_returns(endbr: bytes) -> None:
    target = BASES[64] + TEXT + 0x900
    kernel = Kernel(bits=64, sites=((0, 0, 6),), pointers=(target,))
    code_with(kernel, (target, endbr + b"\xe9\1\2\0\0"))
    assert after(kernel) == ["e8fb08000090"]  # a jump is not a return unless the kernel says so
    bare = load_kernel(kernel.elf())
    kernel.extra[".return_sites"] = (bytes(4), ALLOC)
    section = load_kernel(kernel.elf()).section(".return_sites")
    assert section is not None and bare.section(".return_sites") is None
    relative = target + len(endbr) - section.address
    kernel.extra[".return_sites"] = (relative.to_bytes(4, "little", signed=True), ALLOC)
    assert after(kernel) == ["660f1f440000"]


def test_which_empty_function_is_the_nop_is_not_guessed() -> None:
    kernel = Kernel(sites=((0, 0, 6), (8, 1, 6), (16, 2, 6)), pointers=(EMPTY, EMPTY_TOO, FUNCTION))
    code_with(kernel, (EMPTY, b"\xc3"), (EMPTY_TOO, b"\xc3"))
    assert after(kernel) == [None, None, "e8eb07000090"]
    assert "2 empty functions" in reasons(kernel)[0]


def test_null_pointer_is_undecided_unless_an_alternative_covers_it() -> None:
    covers = (8, 6, b"\x31\xc0", NOT | XENPV)
    kernel = Kernel(sites=((0, 0, 6), (8, 1, 6)), pointers=(0, 0), alternatives=(covers,))
    assert after(kernel) == [None, "31c08d742600"]
    assert "paravirt_BUG" in reasons(kernel)[0]


@pytest.mark.parametrize("feature", [PVUNLOCK, VCPUPREEMPT, XENPV])
def test_features(feature: int) -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,))
    kernel.alternatives = ((0, 6, b"\x31\xc0", NOT | feature),)
    assert after(kernel) == ["31c08d742600"]
    assert after(kernel, CpuFeatures(frozenset({feature}), frozenset())) == ["e8fb07000090"]
    kernel.alternatives = ((0, 6, b"\x31\xc0", feature),)
    assert after(kernel) == ["e8fb07000090"]
    kernel.alternatives = ((0, 6, b"\x31\xc0", NOT | 5),)
    assert after(kernel) == [None]
    assert reasons(kernel) == ["an alternative depends on processor feature 0*32+5"]


def test_the_last_alternative_wins() -> None:
    first, second = (0, 6, b"\x31\xc0", NOT | XENPV), (0, 6, b"\xc6\0\0", NOT | PVUNLOCK)
    kernel = Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,), alternatives=(first, second))
    assert after(kernel) == ["c600008d7600"]


@pytest.mark.parametrize("opcode, target, expected", [
    (0xE8, 0x800, "e8fb07000090"),
    (0xE9, 0x800, "e9fb07000090"),
    (0xE9, 0x81, "eb7f8d760090"),  # shortened as recompute_jump does: 2 bytes, 3 of NOP, then padding
    (0xE9, 0x82, "e97d00000090"),
    (0xE9, -0x100, "e9fbfeffff90"),
])
def test_branches_of_replacements_are_relocated(opcode: int, target: int, expected: str) -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,), alternatives=((0, 6, bytes(5), NOT | XENPV),))
    section = load_kernel(kernel.elf()).section(".altinstr_replacement")
    assert section is not None
    rel32 = kernel.text + target - (section.address + 5)
    branch = bytes([opcode]) + rel32.to_bytes(4, "little", signed=True)
    kernel.alternatives = ((0, 6, branch, NOT | XENPV),)
    assert after(kernel) == [expected]


def test_an_alternative_around_a_site_is_written_whole(tmp_path: Path) -> None:
    around = (2, 10, b"\xfa" * 10, NOT | XENPV)
    kernel = Kernel(sites=((4, 0, 6),), pointers=(FUNCTION,), alternatives=(around,))
    image = load_kernel(kernel.elf())
    patch = boot_patch(image)
    assert patch.sites[0].after == b"\xfa" * 6
    write_patched(image, patch, tmp_path / "vmlinux")
    assert load_kernel(tmp_path / "vmlinux").read(kernel.text + 1, 12) == b"\xcc" + b"\xfa" * 10 + b"\xcc"


def test_a_site_that_calls_something_else() -> None:
    kernel = Kernel(sites=((0, 0, 6), (8, 1, 6), (16, 2, 6)), pointers=(FUNCTION,) * 3)
    code_with(kernel, (TEXT_32, kernel.call(0, 2)))
    assert after(kernel)[0] is None and "not the pv_ops member" in reasons(kernel)[0]
    assert reasons(kernel)[1:] == ["", ""]


@pytest.mark.parametrize("length, reason", [
    (1, "does not end at an instruction"),
    (2, "does not end at an instruction"),
    (5, "does not end at an instruction"),
    (6, ""),
    (7, "takes in more than the call"),
    (8, "does not end at an instruction"),
    (9, "takes in more than the call"),
])
@pytest.mark.parametrize("bits", [32, 64])
def test_lengths_that_are_not_the_calls(bits: int, length: int, reason: str) -> None:
    """Even where an alternative would replace the whole site."""
    covers = (0, 9, b"\x31\xc0", NOT | XENPV)
    kernel = Kernel(bits=bits, sites=((0, 1, length), (16, 1, 6)), pointers=(BASES[bits] + TEXT + 0x800,) * 2)
    code_with(kernel, (kernel.text + 6, b"\x90\x31\xc0"))
    for alternatives in ((), (covers,)):
        kernel.alternatives = alternatives
        damaged, sound = patched(kernel).sites
        assert (damaged.after is None, sound.after is None) == (bool(reason), False)
        assert reason in damaged.reason
        assert damaged.reason.startswith(f"the length {length} ") == bool(reason)
    assert all(linear >= kernel.text + 16 for linear, _ in patched(kernel).changes) == bool(reason)


@pytest.mark.parametrize("pushes, pops, decided", [
    ("51", "59", True), ("5152", "5a59", True), ("51", "", False), ("", "59", False), ("5152", "59", False)])
def test_saved_registers_belong_to_the_site(pushes: str, pops: str, decided: bool) -> None:
    whole = Kernel(sites=((0, 0, 6 + len(pushes + pops) // 2), (16, 0, 6)), pointers=(FUNCTION,))
    code_with(whole, (TEXT_32, bytes.fromhex(pushes) + whole.call(0, 0) + bytes.fromhex(pops)))
    assert (after(whole)[0] is not None) == decided
    assert ("takes in more" in reasons(whole)[0]) != decided


def test_a_site_without_a_call_among_sites_that_call() -> None:
    kernel = Kernel(sites=((0, 0, 6), (16, 0, 6)), pointers=(FUNCTION,))
    code_with(kernel, (TEXT_32, bytes.fromhex("31c031c031c0")))
    assert after(kernel) == [None, "e8eb07000090"]
    assert "does not call through pv_ops as other sites do" in reasons(kernel)[0]


def test_unknown_types_are_not_decided() -> None:
    kernel = Kernel(sites=((0, 12, 6), (8, 13, 6), (16, 200, 6)), pointers=(FUNCTION,) * 201)
    assert after(kernel) == ["e8fb07000090", None, None]
    assert reasons(kernel)[1:] == [
        f"its type {number} is none of this kernel's, 0 to 12: the table is damaged" for number in (13, 200)]
    unnamed = Kernel(banner=b"Linux version 6.0.1 x\0", sites=((0, 13, 6),), pointers=(FUNCTION,) * 14)
    assert after(unnamed) == ["e8fb07000090"]   # its table is not known, so neither is its end


def test_patched_already() -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,), code=b"\xe8\0\0\0\0\x90")
    assert "patched already" in reasons(kernel)[0]


@pytest.mark.parametrize("banner", [b"", b"Linux version 6.8.1 x\0", b"Linux version 2.4.37 x\0"])
def test_other_kernels_are_not_guessed(banner: bytes) -> None:
    kernel = Kernel(banner=banner, sites=((0, 0, 6),), pointers=(FUNCTION,))
    assert after(kernel) == [None]
    assert "2.6.24 to 6.7" in reasons(kernel)[0]
    assert patched(kernel).changes == ()
    assert patch_csv(patched(kernel).sites).splitlines()[1] == "c1001000,0,unknown,6,.text,ff15002000c1,"


def test_cpu_is_a_choice() -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(EMPTY,))
    code_with(kernel, (EMPTY, b"\xc3"))
    assert patched(kernel, cpu="p6").sites[0].after == bytes.fromhex("660f1f440000")
    with pytest.raises(PatchError, match="unknown NOP family"):
        patched(kernel, cpu="p7")


@pytest.mark.parametrize("alternative, message", [
    ((0, 2, b"\x31\xc0\x90", XENPV), "replaces 2 bytes by 3"),
    ((0x4000000, 6, b"\x90", XENPV), "outside the image"),
])
def test_broken_alternatives(alternative: tuple[int, int, bytes, int], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        patched(Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,), alternatives=(alternative,)))


def test_truncated_alternatives() -> None:
    kernel = Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,), extra={".altinstructions": (bytes(13), ALLOC)})
    with pytest.raises(ImageError, match="cut short"):
        patched(kernel)


def test_csv() -> None:
    kernel = Kernel(sites=((0x20, 9, 6), (0, 0, 6)), pointers=(FUNCTION,) * 10)
    assert patch_csv(patched(kernel).sites) == (
        "site,type,op,len,section,before,after\n"
        "c1001020,9,lock.queued_spin_unlock,6,.text,ff15242000c1,e8db07000090\n"
        "c1001000,0,cpu.io_delay,6,.text,ff15002000c1,e8fb07000090\n"
    )
    assert operation_name(load_kernel(kernel.elf()), 9) == "lock.queued_spin_unlock"


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = load_kernel(Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,)).elf())
    patch = boot_patch(image)
    path = tmp_path / "vmlinux"
    with pytest.raises(ImageError, match="cannot write"):
        write_patched(image, patch, tmp_path / "missing" / "vmlinux")
    path.write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "replace", full)
        with pytest.raises(ImageError, match="No space left"):
            write_patched(image, patch, path)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["vmlinux"]
    write_patched(image, patch, path)
    assert path.read_bytes() == image.with_bytes(patch.changes)
    assert not stat.S_IMODE(path.stat().st_mode) & 0o111


def test_written_through_links_but_never_over_what_is_no_file(tmp_path: Path) -> None:
    image = load_kernel(Kernel(sites=((0, 0, 6),), pointers=(FUNCTION,)).elf())
    patch = boot_patch(image)
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    to_fifo = tmp_path / "to_fifo"
    to_fifo.symlink_to(fifo)
    for bad in (fifo, to_fifo, tmp_path, ""):
        with pytest.raises(ImageError, match=r"cannot write the patched kernel to .*: not a regular file"):
            write_patched(image, patch, str(bad))
    for bad in (loop, f"{tmp_path}/nul\0"):
        with pytest.raises(ImageError, match="cannot write the patched kernel to"):
            write_patched(image, patch, str(bad))
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "vmlinux"
    link.symlink_to(target)
    for _ in range(2):      # a link to nothing yet, then to a file
        write_patched(image, patch, link)
        assert link.is_symlink()
        assert target.read_bytes() == image.with_bytes(patch.changes)
        target.write_bytes(b"before")
    assert [entry.name for entry in target.parent.iterdir()] == ["vmlinux"]
