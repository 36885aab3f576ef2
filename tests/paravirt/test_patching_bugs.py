"""What went wrong in the history of patching, executed: the wrong code does the wrong thing, the right one does not."""

from dataclasses import replace

import pytest

import pvfast
from pvfast.assembly import FAMILIES, assemble, disassemble, nops
from pvfast.errors import GuestError
from pvfast.experiments.runs import boot, read_word, run_to
from pvfast.guest import GuestImage, build
from pvfast.machine import Machine
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names
from pvfast.paravirt.patcher import patch_call, patch_site
from pvfast.paravirt.poking import buffered_pokes, in_place_pokes
from pvfast.paravirt.sites import CLBR_ANY, CLBR_EAX, PatchSite, PatchType

ITERATIONS = 10


# --- 2: in-place patching can patch the patcher (ab144f5ec64) ---------------------------------------------------------

#: A patcher as the kernel's was, for one site that becomes a direct call. text_poke looks its page up, and looking up
#: goes through the very site. Half patched, the site ends with the high byte of the pointer's address, C0: the call
#: comes back there, and C0 takes the two instructions behind the site, F9 and C3, for its operands (sar $0xc3, %cl).
PATCHER = """
apply_in_place:                         /* 2.6.22: the replacement is written over the site, then NOPs are poked */
	movl $site, %eax
	call patch
	movl $site + 5, %eax
	movl $nop_1, %edx
	movl $1, %ecx
	call text_poke
	jmp bench_done

apply_with_buffer:                      /* 2.6.23: all is made in a buffer, then poked */
	movl $buffer, %eax
	call patch
	movb $0x90, buffer + 5
	movl $site, %eax
	movl $buffer, %edx
	movl $6, %ecx
	call text_poke
	jmp bench_done

patch:                                  /* (EAX: where to write) call pgd_val, as it will stand at the site */
	movb $0xe8, (%eax)
	movl $pgd_val - (site + 5), 1(%eax)
	ret

text_poke:                              /* (EAX: address, EDX: bytes, ECX: how many) */
	movl %eax, %edi
	movl %edx, %esi
	pushl %ecx
	call lookup_address
	popl %ecx
	jnc 1f
	rep movsb
	ret
1:	incl not_mapped
	ret

lookup_address:                         /* CF: the page is there, as it always is */
site:
	call *pgd_val_pointer
	stc
	ret

pgd_val:
	ret

nop_1:
	nop
buffer:
	.space 6
.balign 4
pgd_val_pointer:
	.long pgd_val
not_mapped:
	.long 0
"""


def patcher_in_the_kernel() -> tuple[Machine, GuestImage, pvfast.assembly.Assembly]:
    image = build()
    machine = boot(image)
    code = assemble(PATCHER, image.labels["module_page"], {"bench_done": image.labels["bench_done"]})
    machine.write_linear(code.address, code.code)
    return machine, image, code


def word(machine: Machine, address: int) -> int:
    return int.from_bytes(machine.read_linear(address, 4), "little")


def test_bug_2_in_place_patching_runs_the_half_patched_site() -> None:
    machine, image, code = patcher_in_the_kernel()
    machine.cpu.eip = code.labels["apply_in_place"]
    run_to(machine, image, "bench_done", 10_000)
    assert word(machine, code.labels["not_mapped"]) == 1        # the kernel's own page
    half = machine.read_linear(code.labels["site"], 6)          # and so it stays
    assert (half[0], half[5]) == (0xE8, 0xC0)
    assert "sarb $0xc3, %cl" in [row.text for row in disassemble(machine.read_linear(code.labels["site"], 8))]


def test_bug_2_a_buffer_leaves_the_patcher_whole() -> None:
    machine, image, code = patcher_in_the_kernel()
    before = machine.read_linear(code.labels["site"], 6)
    machine.cpu.eip = code.labels["apply_with_buffer"]
    run_to(machine, image, "bench_done", 10_000)
    assert word(machine, code.labels["not_mapped"]) == 0
    record = PatchSite(code.labels["site"], 0, 6, CLBR_ANY)
    expected = patch_site(record, before, lambda *_: patch_call(
        code.labels["pgd_val"], CLBR_ANY, record.address, CLBR_ANY, 6))
    assert machine.read_linear(code.labels["site"], 6) == expected


def test_both_ways_end_alike_and_only_one_is_never_between() -> None:
    image = build()
    for name in hypervisor_names():
        kernel = build(hypervisor=name)
        patch = hypervisor(name).patcher(kernel.patch_context(name))
        for site in kernel.sites:
            insns = kernel.read(site.address, site.length)
            done = patch_site(site, insns, patch)
            buffered = states(insns, site, buffered_pokes(site, insns, patch))
            in_place = states(insns, site, in_place_pokes(site, insns, patch))
            assert in_place[-1] == buffered[-1] == done
            assert set(buffered) <= {insns, done}
    site = image.site("site_irq_disable")
    between = states(image.read(site.address, 10), site, in_place_pokes(
        site, image.read(site.address, 10), hypervisor("native").patcher()))[1:-1]
    assert between[0].hex(" ", 1).startswith("fa 52 ff 15")        # cli, and the rest of the old code: a push too many


def states(insns: bytes, site: PatchSite, pokes: tuple[tuple[int, bytes], ...]) -> list[bytes]:
    """What the site holds before, between and after the stores."""
    found = [insns]
    for address, code in pokes:
        place = address - site.address
        found.append(found[-1][:place] + code + found[-1][place + len(code):])
    return found


# --- 10: an off-by-one in the length that patch() answers, visible only with CONFIG_DEBUG_PARAVIRT -------------------


def apply_2_6_20(insns: bytes, code: bytes, used: int, clobbers: int, debug: bool) -> bytes:
    """The loop of 2.6.20's apply_paravirt for one site: `code` is written, and `used` is believed."""
    site = bytearray(code + insns[len(code):])
    for register in range(3):
        if debug and len(site) - used >= 2 and clobbers >> register & 1:
            site[used:used + 2] = bytes((0xF7, 0xD0 | register))           # not %reg
            used += 2
    site[used:] = nops("generic", len(site) - used)
    return bytes(site)


@pytest.mark.parametrize(("used", "debug", "survives"), [
    (8, False, True), (8, True, True),
    (7, False, True),       # wrong, and nobody notices: events are masked by 8D instead of 1, and 76 00 goes nowhere
    (7, True, False),       # the poison is eaten as an operand, and takes the next instruction with it
])
def test_bug_10_an_answer_too_short_by_one_shows_only_under_poison(used: int, debug: bool, survives: bool) -> None:
    image = build()
    site = image.site("site_irq_disable")
    insns = image.read(site.address, site.length)
    code = hypervisor("xen").patcher(image.patch_context("xen"))(site.type, site.clobbers, insns, site.address)
    assert code is not None and len(code) == 8
    machine = boot(image, "xen")
    machine.write_linear(site.address, apply_2_6_20(insns, code, used, site.clobbers, debug))
    machine.cpu.eip, machine.cpu.ecx = image.benchmarks["irq_disable"].address, ITERATIONS
    if not survives:
        with pytest.raises(GuestError):
            run_to(machine, image, "bench_done", 10_000)
        return
    run_to(machine, image, "bench_done", 10_000)
    mask = machine.read_linear(read_word(machine, image, "per_cpu__xen_vcpu") + 1, 1)
    assert mask == (b"\1" if used == len(code) else b"\x8d")


@pytest.mark.parametrize("name", hypervisor_names())
def test_nobody_relies_on_a_register_that_may_die(name: str) -> None:
    """The whole kernel with the poison of CONFIG_DEBUG_PARAVIRT."""
    plain, poisoned = (build(hypervisor=name).boot_patched(name, debug_clobbers=debug) for debug in (False, True))
    assert plain.code != poisoned.code
    machines = boot(plain, name), boot(poisoned, name)
    for loop in plain.benchmarks.values():
        for machine, image in zip(machines, (plain, poisoned), strict=True):
            machine.cpu.eip, machine.cpu.ecx = loop.address, ITERATIONS
            run_to(machine, image, "bench_done", 1_000_000)
        results = {read_word(machine, plain, "exit_status") for machine in machines}
        assert len(results) == 1, loop.name
        assert not any(read_word(machine, plain, "fault_record", 8) for machine in machines), loop.name


def test_poison_exposes_a_wrong_record() -> None:
    """The way out of sysenter keeps the result in EAX; without poison, a record that lets EAX die goes unnoticed."""
    image = build()
    wrong = replace(image.site("site_sysenter_disable"), clobbers=CLBR_ANY)
    sites = tuple(wrong if site.address == wrong.address else site for site in image.sites)
    statuses = {}
    for debug in (False, True):
        kernel = replace(image, sites=sites).boot_patched(debug_clobbers=debug)
        machine = boot(kernel)
        machine.cpu.eip, machine.cpu.ecx = kernel.benchmarks["null_syscall_sysenter"].address, ITERATIONS
        run_to(machine, kernel, "bench_done", 10_000)
        statuses[debug] = read_word(machine, kernel, "exit_status")
    assert statuses == {False: 1, True: ~1 & 0xFFFFFFFF}


# --- 11: a branch into the middle of a padded site is legal only at the start of an instruction -----------------------

CODE, STACK = 0x1000, 0x8000
REGISTERS = {"eax": 0x2000, "ecx": 1, "edx": 2, "ebx": 0x2100, "ebp": 3, "esi": 0x2200, "edi": 0x2300}
FLAGS = 0x8D7


def enter(code: bytes, offset: int) -> bool:
    """Whether padding entered at an offset does nothing: registers, flags and memory stay, and it comes to its end."""
    machine = pvfast.Machine(ram="64K")
    machine.write(CODE, code)
    before = bytes(machine.ram)
    for name, value in REGISTERS.items():
        setattr(machine.cpu, name, value)
    machine.cpu.eip, machine.cpu.esp, machine.cpu.eflags = CODE + offset, STACK, FLAGS
    stop = machine.run(until=CODE + len(code), max_instructions=len(code))
    kept = {**REGISTERS, "esp": STACK, "eflags": FLAGS, "eip": CODE + len(code)}
    registers = machine.cpu.registers()
    return (stop.reason is pvfast.StopReason.UNTIL and all(registers[name] == kept[name] for name in kept)
            and bytes(machine.ram) == before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", range(1, 19))
def test_bug_11_padding_may_be_entered_at_the_start_of_an_instruction(family: str, length: int) -> None:
    code = nops(family, length)
    starts = {row.address for row in disassemble(code)}
    assert all(enter(code, offset) for offset in starts)


@pytest.mark.parametrize(("length", "starts", "legal"), [
    (5, {0, 1}, {0, 1}),            # 90; lea 0(%esi,1), %esi
    (8, {0, 1}, {0, 1}),            # 90; lea 0L(%esi,1), %esi
])
def test_bug_11_the_generic_forms_of_5_and_8_have_two_instructions(length: int, starts: set, legal: set) -> None:
    code = nops("generic", length)
    assert code[0] == 0x90
    assert {row.address for row in disassemble(code)} == starts
    assert {offset for offset in range(length) if enter(code, offset)} == legal


def test_bug_11_entering_at_byte_2_destroys_a_register() -> None:
    machine = pvfast.Machine(ram="64K")
    machine.write(CODE, nops("generic", 8))
    machine.cpu.eip, machine.cpu.eax = CODE + 2, 0x2000
    machine.step()
    assert machine.cpu.eax == 0x2600            # b4 26: mov $0x26, %ah, where the lea has its operand


# --- 12: apply_paravirt twice gives the same bytes: VMI relies on it --------------------------------------------------


@pytest.mark.parametrize("name", hypervisor_names())
def test_bug_12_the_second_pass_uses_only_type_and_length(name: str) -> None:
    image = build(hypervisor=name)
    patch = hypervisor(name).patcher(image.patch_context(name))
    for site in image.sites:
        insns = image.read(site.address, site.length)
        once = patch_site(site, insns, patch)
        assert patch_site(site, once, patch) == once
        for other in (once, bytes(site.length), b"\xcc" * site.length):
            assert patch(site.type, site.clobbers, other, site.address) == patch(
                site.type, site.clobbers, insns, site.address)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", hypervisor_names())
def test_bug_12_the_kernel_patched_twice_is_the_kernel_patched_once(name: str, debug: bool) -> None:
    once = build(hypervisor=name).boot_patched(name, debug_clobbers=debug)
    assert once.boot_patched(name, debug_clobbers=debug).code == once.code


def test_bug_12_a_patch_function_that_looks_at_the_bytes_undoes_itself() -> None:
    """Wrong: it decodes the call that it replaces, and finds none the second time."""
    def decoding(site_type: int, clobbers: int, insns: bytes, address: int) -> bytes | None:
        return b"\xfa" if insns[2:4] == b"\xff\x15" else b""

    site = PatchSite(CODE, PatchType.IRQ_DISABLE, 10, CLBR_EAX)
    insns = bytes.fromhex("5152ff15680040c05a59")
    once = patch_site(site, insns, decoding)
    assert once[0] == 0xFA
    assert patch_site(site, once, decoding)[0] != 0xFA      # interrupts stay on
    native = hypervisor("native").patcher()
    assert patch_site(site, patch_site(site, insns, native), native) == once
