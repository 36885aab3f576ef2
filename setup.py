"""Build: make the generated sources, find out how to dispatch, compile the core.

PVFAST_CHECKED=1 makes the checked build: bounds and initialisation checks, assertions, -O1 -g, return-per-block.
PVFAST_SANITIZE=1 adds gcc's address and undefined-behaviour sanitizers to it; their runtime has to be preloaded.
PVFAST_DISPATCH=tail or =return overrides the probe.
"""
import enum
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler

HERE = Path(__file__).parent
CORE = HERE / "pvfast" / "core"
HYPERVISORS = HERE / "pvfast" / "paravirt" / "hypervisors"
CHECKED = os.environ.get("PVFAST_CHECKED") == "1"
# Unaligned accesses to guest memory are meant: the hosts that matter have them, and the hot path is made of them.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=undefined",
              "-fno-omit-frame-pointer"] if os.environ.get("PVFAST_SANITIZE") == "1" else []

TAIL_CALL_PROBE = r"""
/* Two handlers that call each other a hundred million times: without tail calls the stack overflows. */
typedef struct Op { void (*run)(long *, struct Op *, char *); } Op;
static void other(long *left, Op *op, char *mem);
__attribute__((noinline)) static void handler(long *left, Op *op, char *mem) {
    if (--*left <= 0) return;
    op->run(left, op, mem);
}
__attribute__((noinline)) static void other(long *left, Op *op, char *mem) {
    op[0].run = handler;
    handler(left, op, mem);
}
int main(void) {
    long left = 100000000;
    Op op = { other };
    op.run(&left, &op, 0);
    return 0;
}
"""


def compile_flags(compiler_type: str) -> list[str]:
    """Flags of the core, by compiler."""
    if compiler_type == "msvc":
        return ["/O2"]
    common = ["-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unreachable-code"]
    if CHECKED:
        level = "-O0" if SANITIZERS else "-O1"      # with sanitizers, -O1 compiles for a quarter of an hour
        return [level, "-g", "-UNDEBUG", *SANITIZERS, *common]
    return ["-O2", "-foptimize-sibling-calls", "-fno-tree-slp-vectorize", "-fno-plt",
            "-DCYTHON_INLINE=inline __attribute__((always_inline))", *common]


def makes_tail_calls(flags: list[str]) -> bool:
    """Compile and run the probe with the core's own flags."""
    choice = os.environ.get("PVFAST_DISPATCH")
    if choice in ("tail", "return"):
        return choice == "tail"
    if CHECKED:
        return False
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text(TAIL_CALL_PROBE)
        try:
            objects = compiler.compile([str(source)], output_dir=directory, extra_postargs=flags)
            compiler.link_executable(objects, "probe", output_dir=directory)
            return subprocess.run([str(Path(directory, "probe"))], timeout=60).returncode == 0
        except Exception as error:  # any failure means: use the style that needs nothing
            print(f"tail-call probe failed ({error}); using return-per-block", file=sys.stderr)
            return False


def extensions() -> list[Extension]:
    compiler = new_compiler()
    flags = compile_flags(compiler.compiler_type)
    tail_calls = makes_tail_calls([flag for flag in flags if not flag.startswith("-DCYTHON")])
    print(f"dispatch: {'tail calls' if tail_calls else 'return per block'}{', checked' if CHECKED else ''}")
    return [Extension(
        name, [source], include_dirs=[str(CORE)],
        depends=[str(path) for place in {CORE, HERE / Path(source).parent}
                 for pattern in ("*.p*[xdi]", "*.h") for path in place.rglob(pattern)],
        extra_compile_args=flags, extra_link_args=SANITIZERS,
        define_macros=[("PVFAST_TAIL_CALLS", str(int(tail_calls))), ("PVFAST_CHECKED", str(int(CHECKED)))],
    ) for name, source in (
        ("pvfast.core.engine", "pvfast/core/engine.pyx"),
        *((f"pvfast.paravirt.hypervisors.{path.stem}", str(path.relative_to(HERE)))
          for path in sorted(HYPERVISORS.glob("*_host.pyx"))),
    )]


def write_numbers(source: Path) -> None:
    """A hypervisor's interface as C constants: its host, the guest and Python have one source of numbers."""
    name = source.stem.removesuffix("_interface")
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = {}
    for constant, value in vars(module).items():
        if isinstance(value, int) and constant.isupper():
            values[constant] = value
        elif isinstance(value, type) and issubclass(value, enum.IntEnum) and hasattr(value, "prefix"):
            values |= {value.prefix() + member.name: int(member) for member in value}
    small = [f"    {constant} = {value}\n" for constant, value in values.items() if value < 1 << 31]
    large = {constant: value for constant, value in values.items() if 1 << 31 <= value < 1 << 32}   # no C int: no enum
    text = f"# Generated by setup.py from {source.name}.\ncdef enum:\n" + "".join(small)
    if large:
        defines = [f"    #define PVFAST_{constant} {value}u\n" for constant, value in large.items()]
        names = [f'    const u32 {constant} "PVFAST_{constant}"\n' for constant in large]
        text += "cdef extern from *:\n" + "".join(['    """\n', *defines, '    """\n', *names])
    target = HYPERVISORS / f"{name}_numbers.pxi"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    from pvfast.isa.generate import generate

    generate(CORE / "generated")
    for interface in sorted(HYPERVISORS.glob("*_interface.py")):
        write_numbers(interface)
    setup(ext_modules=cythonize(
        extensions(), include_path=[str(CORE)],
        compiler_directives={"language_level": 3, "boundscheck": CHECKED, "initializedcheck": CHECKED,
                             "wraparound": False, "cdivision": True},
    ))
