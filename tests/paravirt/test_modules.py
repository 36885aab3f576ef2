"""Modules: their own tables, patched in the order of module_finalize, run in a booted kernel before and after."""

import pytest

from pvfast.assembly import Assembler, disassemble
from pvfast.errors import PatchError
from pvfast.experiments.runs import boot, read_word, run_to
from pvfast.guest import GUEST_ERAS, GuestImage, build, source_texts
from pvfast.guest.prelude import symbols
from pvfast.machine import Machine
from pvfast.paravirt.alternatives import unpack_alternatives
from pvfast.paravirt.boot_patching import BootOptions, boot_options
from pvfast.paravirt.hypervisors import hypervisor, hypervisor_names
from pvfast.paravirt.modules import Module
from pvfast.paravirt.operations import era
from pvfast.paravirt.patcher import PatchFunction
from pvfast.paravirt.sites import unpack_records

TABLES = (".altinstructions", ".smp_locks", ".parainstructions")
MEMORY = (".text", ".altinstr_replacement", ".data")
MACROS = ("prelude", "constants.S", "operations.S", "atomic.S")
XMM2 = 26
NATIVE = hypervisor("native").patcher()

#: A critical section, a counter and a memory barrier: something for each table. Answers EAX + 1.
SOURCE = """
.text
module_work:
	pushl %ebx
	movl %eax, %ebx
	__raw_local_irq_save
	LOCK_PREFIX
	incl module_counter
10:	lock
	addl $0, (%esp)                         # mb(), where the processor has no mfence
11:	raw_local_irq_restore
	leal 1(%ebx), %eax
	popl %ebx
	ret

.section .altinstructions, "a"
	.long 10b, 12f
	.byte XMM2, 11b - 10b, 13f - 12f, 0
.section .altinstr_replacement, "ax"
12:	mfence
13:
.data
module_counter:
	.long 0
"""


def load(image: GuestImage) -> tuple[Module, dict[str, int]]:
    """Assemble the module for the kernel's page for modules, with the kernel's symbols."""
    tables = {name: address for name, address in image.labels.items() if name.startswith(("paravirt_ops", "pv_"))}
    assembler = Assembler({**symbols(image.era), **tables, "XMM2": XMM2})
    for name, text in source_texts(image.era.name):
        if name in MACROS:
            assembler.add(text, name)
    assembler.add(SOURCE, "module.S")
    program = assembler.link({MEMORY[0]: image.labels["module_page"], **dict.fromkeys(MEMORY[1:]),
                              **dict.fromkeys(TABLES)})
    code = b"".join(program.sections[name].code for name in MEMORY)
    sections = {name: program.sections[name].code for name in TABLES}
    return Module(code, program.sections[".text"].address, sections), dict(program.labels)


def call(machine: Machine, image: GuestImage, address: int, argument: int) -> tuple[int, int]:
    """Call a function in the kernel; its answer, and the instructions it took."""
    cpu, before = machine.cpu, machine.counters.instructions
    cpu.esp -= 4
    machine.write_linear(cpu.esp, image.labels["bench_done"].to_bytes(4, "little"))
    cpu.eip, cpu.eax = address, argument
    run_to(machine, image, "bench_done", 10_000)
    return cpu.eax, machine.counters.instructions - before


def patcher(image: GuestImage, name: str) -> PatchFunction:
    return hypervisor(name).patcher(image.patch_context(name))


def features(machine: Machine, image: GuestImage) -> set[int]:
    word = read_word(machine, image, "boot_cpu_capability")
    return {bit for bit in range(32) if word >> bit & 1}


@pytest.mark.parametrize("name", hypervisor_names())
def test_a_module_runs_in_the_kernel_before_and_after(name: str) -> None:
    image = build(hypervisor=name)
    machine = boot(image, name, "pentium4")
    module, labels = load(image)
    machine.write_linear(module.address, module.code)
    answer, compiled = call(machine, image, labels["module_work"], 41)
    assert answer == 42

    final = module.finalized(patcher(image, name), image.era, features=features(machine, image))
    machine.write_linear(module.address, final.code)
    answer, patched = call(machine, image, labels["module_work"], 41)
    assert answer == 42
    assert patched < compiled or name != "native"
    machine.write_linear(module.address, module.code[:labels["module_counter"] - module.address])
    assert call(machine, image, labels["module_work"], 1)[0] == 2


def text_of(module: Module, labels: dict[str, int]) -> list[str]:
    length = labels["__stop_text"] - module.address
    return [row.text for row in disassemble(module.code[:length], module.address)]


@pytest.mark.parametrize("release", GUEST_ERAS)
def test_each_table_has_its_effect(release: str) -> None:
    image = build(release)
    module, labels = load(image)
    patch = patcher(image, "native")
    done = set(text_of(module.finalized(patch, image.era, features={XMM2}), labels))
    assert {"cli", "pushfl", "popfl", "mfence"} <= done
    assert not any("lock" in text or "call" in text for text in done)
    several = text_of(module.finalized(patch, image.era, smp=True), labels)
    assert sum("lock" in text for text in several) == 2
    assert "mfence" not in several


def test_finalizing_twice_gives_the_same_module() -> None:
    image = build()
    module, _ = load(image)
    for name in hypervisor_names():
        kernel = build(hypervisor=name)
        once = module.finalized(patcher(kernel, name), kernel.era, features={XMM2})
        assert once.finalized(patcher(kernel, name), kernel.era, features={XMM2}) == once


@pytest.mark.parametrize(("words", "release", "expected"), [
    ("ro noreplacement", "2.6.20", BootOptions(False, False, False)),
    ("ro noreplacement", "2.6.22", BootOptions()),
    ("noreplace-paravirt", "2.6.22", BootOptions(replace_paravirt=False)),
    ("noreplace-smp", "2.6.23", BootOptions(replace_smp=False)),
    ("noreplace-smp noreplace-paravirt", "2.6.21", BootOptions()),
    ("noreplace-paravirtual", "2.6.22", BootOptions()),
    ("", "2.6.20", BootOptions()),
])
def test_words_of_the_command_line(words: str, release: str, expected: BootOptions) -> None:
    assert boot_options(words, era(release)) == expected


@pytest.mark.parametrize("name", hypervisor_names())
def test_the_command_line_decides_what_boot_patches(name: str) -> None:
    image = build(hypervisor=name)
    assert image.boot_patched(name, "noreplacement").code == image.code
    both = image.patched(patcher(image, name)).with_smp_locks(smp=False)
    assert image.boot_patched(name).code == both.code
    assert image.boot_patched(name, smp=True).code == image.patched(patcher(image, name)).code
    later = build("2.6.22", name)
    assert later.boot_patched(name, "noreplace-paravirt").code == later.with_smp_locks(smp=False).code
    assert later.boot_patched(name, "noreplace-smp").code == later.patched(patcher(later, name)).code


@pytest.mark.parametrize("name", hypervisor_names())
def test_the_kernel_that_boot_patched_boots(name: str) -> None:
    for words in ("", "noreplacement"):
        image = build(hypervisor=name).boot_patched(name, words)
        machine = boot(image, name)
        assert read_word(machine, image, "jiffies") == 0


# --- The bug of August 2006: the paravirt walker was given .altinstructions (facts: a typo, `alt` for `para`) ---------


def apply_paravirt_unchecked(memory: bytearray, address: int, table: bytes) -> list[int]:
    """A walker that believes its table, as the kernel's: answers the addresses where it would patch, and does."""
    touched = []
    for at in range(0, len(table), 8):
        instr, kind, length, clobbers = (int.from_bytes(table[at + start:at + end], "little")
                                         for start, end in ((0, 4), (4, 5), (5, 6), (6, 8)))
        code = NATIVE(kind, clobbers, bytes(length), instr)
        touched.append(instr)
        if code is not None and 0 <= instr - address < len(memory):
            place = instr - address
            memory[place:place + length] = (code + b"\x90" * length)[:length]
    return touched


def test_bug_7_the_module_loader_walked_the_wrong_table() -> None:
    image = build()
    module, labels = load(image)
    site = labels["module_work"] + 3            # the first patch site
    memory = bytearray(module.code)
    touched = apply_paravirt_unchecked(memory, module.address, module.sections[".altinstructions"])
    assert site not in touched                  # wrong: no site is patched ...
    assert any(not module.address <= place < module.end for place in touched)   # ... and a length becomes an address
    machine = boot(image)
    machine.write_linear(module.address, bytes(memory))
    assert call(machine, image, labels["module_work"], 1)[1] == call_compiled(image, module, labels)

    right = bytearray(module.code)
    touched = apply_paravirt_unchecked(right, module.address, module.sections[".parainstructions"])
    assert site in touched
    with pytest.raises(PatchError, match="no multiple of 8"):
        unpack_records(module.sections[".altinstructions"], module.address, module.end)
    with pytest.raises(PatchError, match="no multiple of 12"):
        unpack_alternatives(module.sections[".parainstructions"], module.address, module.end)


def test_bug_7_two_alternatives_look_like_three_sites_and_are_still_refused() -> None:
    module, _ = load(build())
    table = module.sections[".altinstructions"] * 2
    with pytest.raises(PatchError, match=r"unknown type|outside the code|unknown clobbers"):
        unpack_records(table, module.address, module.end)


def call_compiled(image: GuestImage, module: Module, labels: dict[str, int]) -> int:
    machine = boot(image)
    machine.write_linear(module.address, module.code)
    return call(machine, image, labels["module_work"], 1)[1]
