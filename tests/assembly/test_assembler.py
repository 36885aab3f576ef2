"""The assembler against golden bytes, against GNU as, and on everything it has to refuse."""

import contextlib
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvfast.assembly import Assembler, assemble, disassemble
from pvfast.assembly.encoder import encode
from pvfast.errors import AssemblyError

GNU_AS = shutil.which("as")
CORPUS = Path(__file__).with_name("corpus.s")


@pytest.mark.parametrize(("text", "expected"), [
    ("push %ecx; push %edx; call *0xc0400010; pop %edx; pop %ecx", "5152ff15100040c05a59"),
    ("movb $1,%gs:0x8", "65c6050800000001"),
    ("sti; sysexit", "fb0f35"),
    ("pushf; pop %eax", "9c58"),
    ("push %eax; popf", "509d"),
    ("iret", "cf"),
    ("lgdt (%eax)", "0f0110"),
    ("lock incl (%eax)", "f0ff00"),
    ("ljmp $0x60, $0xc0100000", "ea000010c06000"),
    (".byte 0xea; .long 0xc0100000; .word 0x60", "ea000010c06000"),
    ("movl $10, %eax", "b80a000000"),
    ("int $80", "cd50"),
    ("int $0x80", "cd80"),
    (".space 10", "00" * 10),
    ("mov %cs,%eax; test $3,%eax", "8cc8a903000000"),
    ("jmp *%cs:0xc0400010", "2eff25100040c0"),
    ("rep; movsl", "f3a5"),
    ("not %eax; not %ecx; not %edx", "f7d0f7d1f7d2"),
])
def test_golden_bytes(text, expected):
    assert assemble(text).code.hex() == expected


def corpus():
    lines = CORPUS.read_text().splitlines()
    made = [line.replace("near", f"near_{number}") + f"\nnear_{number}:" for number, line in enumerate(lines)]
    return "\n".join(made) + "\n.space 200\nfar_away: ret\ntable: .long 1, 2, 3\n"


@pytest.mark.skipif(GNU_AS is None, reason="GNU as is not installed")
def test_second_opinion(tmp_path):
    source, linked, flat = tmp_path / "corpus.s", tmp_path / "corpus.o", tmp_path / "corpus.bin"
    text = corpus()
    source.write_text(text)
    probe = subprocess.run([GNU_AS, "--32", "-o", linked, source], capture_output=True, text=True)
    if "unrecognized option" in probe.stderr or shutil.which("ld") is None:
        pytest.skip("this GNU as does not do 32-bit x86, or there is no GNU ld")
    assert probe.returncode == 0, probe.stderr
    link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x100000", "-o", flat, linked]
    subprocess.run(link, check=True, capture_output=True)
    ours, theirs = assemble(text, 0x100000).code, flat.read_bytes()
    listing = [[str(instruction) for instruction in disassemble(code, 0x100000)] for code in (ours, theirs)]
    assert listing[0] == listing[1]
    assert ours == theirs


@pytest.mark.parametrize(("text", "reason"), [
    ("bogus %eax", "Invalid mnemonic"),
    ("lock mov %eax,(%ecx)", "lock is not allowed before mov"),
    ("lock cli", "lock is not allowed"),
    ("lock incl %eax", "lock is not allowed"),
    ("rep cli", "rep is not allowed"),
    ("rep", "prefix stands without"),
    ("nopl (%eax)", "long NOPs"),
    ("movb $1,%rax", "no such instruction"),
    ("movl $1", ""),
    ("movb $256,%al", "does not fit"),
    ("int $256", "out of range"),
    ("movl $0x100000000,%eax", "does not fit 32 bits"),
    ("incl nowhere", "undefined symbol nowhere"),
    ("jmp nowhere", "undefined symbol nowhere"),
    ("mov $1,(%eax)", "size suffix"),
    ("jmp 1f", "no numeric label 1:"),
    ("jmp 1b", "no numeric label 1:"),
    ("x: nop; x: nop", "defined twice"),
    ("jecxz far; .space 200; far:", "only has a short form"),
    ("movw $here,%ax; here:", "32-bit operand"),
    (".long 1 +", "missing"),
    (".byte 256", "does not fit"),
    (".balign 3", "power of two"),
    (".frobnicate 1", "unknown directive"),
    (".popsection", "without .pushsection"),
    (".pushsection .data", ".popsection is missing"),
    (".macro m\nm\n.endm\nm", "nested too deeply"),
    (".if 1", ".endif is missing"),
    (".endr", "without its opening"),
    (".section .data; .long 1", "no address for section .data"),
    (".equ a, b; .equ b, a; movl $a, %eax", "defined by itself"),
    (".long 1/0", "division"),
    ('.ascii "open', "no quoted string"),
    (".rept 1000000000\nnop\n.endr", "repetitions"),
    (".space 0xffffffff", "the limit is"),
    (".balign 0x80000000; nop; .balign 0x80000000", "the limit is"),
    ("x: .space y - x + 1; y:", "y has to be known here"),
    (".space -1", "not possible"),
    (".balign", "needs an argument"),
    (".equ x", "a name and a value"),
    (".fill", "needs an argument"),
    (".section", "name of the section"),
    (".macro\n.endm\n\n", "a name is missing"),
    (".irp\n.endr\n", "a name is missing"),
    (".rept 65536\n.rept 65536\nnop\n.endr\n.endr", "more than"),
])
def test_refused_with_a_typed_error(text, reason):
    with pytest.raises(AssemblyError) as caught:
        assemble(text)
    assert reason.lower() in str(caught.value).lower()


@pytest.mark.parametrize("address", [-1, 1 << 32, (1 << 32) - 1])
def test_addresses_outside_32_bits_are_refused(address):
    with pytest.raises(AssemblyError, match="32-bit addresses"):
        assemble("nop; nop", address)


_WORDS = st.sampled_from([
    "movl", "jmp", "call", "lock", "rep", ".long", ".byte", ".macro", ".endm", ".rept", ".endr", ".if",
    ".else",
    ".endif", ".space", ".balign", ".equ", ".section", ".pushsection", ".popsection", ".ascii", ".irp",
    ".fill", "x", "x:", "1:", "1f", "1b", "$", "%eax", "%gs:", "(", ")", ",", "4", "0x", "-", "'", '"', ".",
    "\\x", ";", "\n", "*", "=", "<<", "/",
])


@given(words=st.lists(_WORDS, max_size=14))
@settings(derandomize=True, max_examples=400, deadline=None)
def test_any_text_gives_bytes_or_a_typed_error(words):
    with contextlib.suppress(AssemblyError):
        assemble(" ".join(words))


def test_error_says_file_line_and_text():
    assembler = Assembler()
    with pytest.raises(AssemblyError) as caught:
        assembler.add("nop\n/* a\n b */ cli; .popsection # here", "entry.S")
    assert (caught.value.file, caught.value.line, caught.value.text) == ("entry.S", 3, ".popsection")
    assert str(caught.value).startswith("entry.S:3: ")


def test_numbers_are_decimal_and_symbols_match_whole_words():
    code = assemble("movl $a+10, %eax; movl ab, %ecx; .long ab", symbols={"a": 1, "ab": 0x100}).code
    assert code.hex() == "b80b000000" "8b0d00010000" "00010000"


def test_labels_take_four_bytes_and_constants_the_shortest_form():
    assert assemble("addl $x, %ecx", symbols={"x": 4}).code.hex() == "83c104"
    assert assemble("x: addl $x, %ecx", 4).code.hex() == "81c104000000"


def test_jumps_grow_only_where_they_must():
    assert assemble("a: .space 126\n jmp a").code[-2:].hex() == "eb80"
    assert assemble("a: .space 127\n jmp a").code[-5:].hex() == "e97cffffff"
    assert assemble("jmp b\n .space 127\n b:").code[:2].hex() == "eb7f"
    assert assemble("jmp b\n .space 128\n b:").code[:5].hex() == "e980000000"


def test_sections_numeric_labels_and_bounds():
    assembler = Assembler({"PV": 0xC0400068})
    assembler.add("""
        .macro SITE type, clobbers, code:vararg=nop
        771: push %ecx; push %edx; call *PV; pop %edx; pop %ecx
        772: .pushsection .parainstructions
             .long 771b; .byte \\type, 772b-771b; .short \\clobbers
             .popsection
        .endm
        start: SITE 0, 7
               SITE 1, 1
    """, "a.S")
    assembler.add(".data\nvalue: .long start, __stop_parainstructions - __start_parainstructions", "b.S")
    program = assembler.link({".text": 0x100000, ".parainstructions": None, ".data": 0x200000})
    records = program.sections[".parainstructions"]
    assert records.address == 0x100014
    assert records.code.hex() == "00001000" "000a0700" "0a001000" "010a0100"
    assert program.sections[".data"].code.hex() == "00001000" "10000000"
    assert program.labels["value"] == 0x200000


def test_macros_repetition_and_conditions():
    text = """
        .equ SMP, 1
        .macro store value, to=0x1000
        movl $\\value, \\to
        .endm
        .irp register, eax, ecx
        push %\\register
        .endr
        .rept 2
        nop
        .endr
        .if SMP - 1
        cli
        .else
        sti
        .endif
        .ifdef UNKNOWN
        hlt
        .endif
        store 5
        store 6, to=0x2000
    """
    assert assemble(text).code.hex() == "5051" "9090" "fb" "c7050010000005000000" "c7050020000006000000"


def test_alignment_pads_code_with_nops_and_data_with_zeros():
    assert assemble("cli; .balign 4; sti", 0x1000).code.hex() == "fa8d7600fb"
    assembler = Assembler()
    assembler.add(".data; .byte 1; .balign 4; .byte 2")
    assert assembler.link({".data": 0}).sections[".data"].code.hex() == "0100000002"


def test_overlapping_sections_are_refused():
    assembler = Assembler()
    assembler.add(".space 32; .data; .long 1")
    with pytest.raises(AssemblyError, match=r"inside \.data"):
        assembler.link({".text": 0x1000, ".data": 0x1010})


def test_threads_do_not_share_an_encoder():
    failures = []

    def work(seed):
        for value in range(200):
            number = seed * 1000 + value
            if assemble(f"movl ${number}, %eax").code[1:] != number.to_bytes(4, "little"):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_repeated_instruction_is_encoded_once():
    before = encode.cache_info().misses
    assemble("x: movl $x, 0x7654(%esp)\n" + "movl $x, 0x7654(%esp)\n" * 99)
    assert encode.cache_info().misses == before + 1


def test_disassembly_drops_nothing():
    code = bytes(range(256))
    for bits in (16, 32, 64):
        assert b"".join(instruction.bytes for instruction in disassemble(code, 0x1000, bits)) == code
    with pytest.raises(AssemblyError, match="choose 16, 32 or 64"):
        disassemble(b"", bits=8)
