"""The ``pvfast`` command: arguments in, calls out; no logic.

Each command calls one function of pvfast and one of ``pvfast/report``, which it imports only then, so that
--help is quick. Next: ``experiments/matrix.py`` and ``paravirt/linux/listing.py``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from pvfast import __version__
from pvfast.errors import GuestError, PvfastError
from pvfast.processor import MODELS

EXIT_FAILED, EXIT_NOT_MEASURED, EXIT_INTERRUPTED = 1, 3, 130
_EXIT_CODES = """
\b
Exit codes: 0 done; 1 failed, or a site is undecided in an image that was not
patched yet; 2 wrong usage; 3 could not measure; 130 stopped by Ctrl-C.
"""


class _Commands(click.Group):
    """Turns errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout is not None:      # the shell's >&-
                    sys.stdout.flush()          # a full disk must not wait for the interpreter's end
        except PvfastError as error:
            click.echo(f"pvfast: error: {error}", err=True)
            ctx.exit(EXIT_NOT_MEASURED if isinstance(error, GuestError) else EXIT_FAILED)
        except MemoryError as error:
            click.echo(f"pvfast: error: {str(error) or 'out of memory'}", err=True)
            ctx.exit(EXIT_NOT_MEASURED)
        except KeyboardInterrupt:
            click.echo("pvfast: stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:    # click deals with a closed pipe itself
            what = "cannot write" if error.filename is None else f"cannot use {error.filename!r}"
            _drop_output()
            click.echo(f"pvfast: error: {what}: {error.strerror or error}", err=True)
            sys.exit(EXIT_FAILED)


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_IMAGE = click.argument("image", type=click.Path())


@click.group(cls=_Commands, context_settings=_CONTEXT, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="pvfast")
def cli() -> None:
    """Exact, repeatable measurement of paravirtualization."""


@cli.command(epilog=_EXIT_CODES)
@click.option("--image", type=click.Path(),
              help="Run the patch sites of this 32-bit kernel (bzImage or ELF), not the built-in guest kernel.")
@click.option("--hypervisor", "hypervisors", multiple=True, metavar="NAME",
              help="Only this one; may be given again. Default: native and xen.")
@click.option("--operation", "operations", multiple=True, metavar="NAME",
              help="Only this one; may be given again.")
@click.option("--processor", type=click.Choice(MODELS), default=MODELS[0], show_default=True, metavar="NAME",
              help=f"Processor model: {' or '.join(MODELS)}.")
@click.option("--host-time/--no-host-time", default=True, show_default=True,
              help="Time the host too; every other figure is equal on every run.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def run(ctx: click.Context, image: str | None, hypervisors: Sequence[str], operations: Sequence[str],
        processor: str, host_time: bool, as_json: bool) -> None:
    """Measure each operation as an indirect call, as a direct call and patched inline."""
    from pvfast.report import tables
    from pvfast.report.progress import progress_bar

    if image is not None:
        if hypervisors and set(hypervisors) != {"native"}:
            raise click.UsageError("--image measures a kernel on bare hardware: leave --hypervisor out")
        from pvfast.experiments import kernel_operation_names, run_kernel
        from pvfast.images import load_kernel

        opened = load_kernel(image)
        _check_choice("--operation", operations, kernel_operation_names(opened))
        with progress_bar() as report:
            kernel = run_kernel(opened, operations, processor=processor, progress=report)
        _print(tables.to_json(kernel.as_dict())) if as_json else tables.show(tables.kernel_report(kernel))
        if not kernel.measured:
            ctx.exit(EXIT_NOT_MEASURED)
        return
    from pvfast.experiments import HYPERVISORS, operation_names, run_matrix
    from pvfast.paravirt.hypervisors import hypervisor_names

    _check_choice("--hypervisor", hypervisors, hypervisor_names())
    _check_choice("--operation", operations, operation_names())
    with progress_bar() as report:
        matrix = run_matrix(hypervisors or HYPERVISORS, operations, host_time=host_time, processor=processor,
                            progress=report)
    _print(tables.to_json(matrix.as_dict())) if as_json else tables.show(tables.matrix_report(matrix))
    if not matrix.measured:
        ctx.exit(EXIT_NOT_MEASURED)


@cli.command(epilog=_EXIT_CODES)
@_IMAGE
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")
def sites(image: str, as_json: bool, as_csv: bool) -> None:
    """List the patch sites of a kernel IMAGE (bzImage or ELF)."""
    from pvfast.images import load_kernel
    from pvfast.paravirt.linux import list_sites, summarize
    from pvfast.report import tables

    if as_json and as_csv:
        raise click.UsageError("choose one of --json and --csv")
    rows = list_sites(load_kernel(image))
    if as_csv:
        click.echo(tables.sites_csv(rows), nl=False)
    elif as_json:
        _print(tables.sites_json(rows, summarize(rows)))
    else:
        tables.show(tables.sites_report(rows, summarize(rows)))


@cli.command(epilog=_EXIT_CODES)
@_IMAGE
@click.option("--hypervisor", type=click.Choice(["native"]), default="native", show_default=True,
              help="What the kernel boots on.")
@click.option("--csv", "as_csv", is_flag=True, help="Columns site,type,op,len,section,before,after.")
@click.option("-o", "--output", type=click.Path(), help="Write the kernel, patched, as an ELF file.")
@click.pass_context
def patch(ctx: click.Context, image: str, hypervisor: str, as_csv: bool, output: str | None) -> None:
    """Compute what its own boot makes of every patch site of a kernel IMAGE."""
    from pvfast.images import load_kernel
    from pvfast.paravirt.linux import PATCHED_ALREADY, boot_patch, patch_csv, show_code, write_patched
    from pvfast.report import tables

    if output and _same_file(output, image):
        raise click.BadParameter("that is the input image, which stays as it is: name another file", param_hint="-o")
    kernel = load_kernel(image)
    patched = boot_patch(kernel)
    if output is not None:
        write_patched(kernel, patched, output)
    if as_csv:
        click.echo(patch_csv(patched.sites), nl=False)
    else:
        tables.show(tables.patch_report(patched.sites, lambda code, linear: show_code(code, linear, kernel.bits)))
    undecided = [site for site in patched.sites if site.reason]
    if undecided:
        click.echo(f"pvfast: {len(undecided)} of {len(patched.sites)} sites are undecided, the first because "
                   f"{undecided[0].reason}", err=True)
    if any(site.reason != PATCHED_ALREADY for site in undecided):
        ctx.exit(EXIT_FAILED)


@cli.command(epilog=_EXIT_CODES)
@click.argument("mnemonic", required=False)
def isa(mnemonic: str | None) -> None:
    """List the instructions that the core executes, or the forms of one MNEMONIC."""
    from pvfast.isa.forms import FORMS
    from pvfast.report import tables
    from pvfast.report.suggestions import suggest_mnemonics

    forms = [row for row in FORMS if mnemonic is None or row.mnemonic == mnemonic.upper()]
    if not forms:
        close = suggest_mnemonics(mnemonic or "", {row.mnemonic for row in FORMS})
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise PvfastError(f"no instruction {mnemonic!r}: {hint}`pvfast isa` lists them all")
    tables.show(tables.isa_report(forms))


def _print(text: str) -> None:
    click.echo(text)


def _check_choice(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(known)}", param_hint=option)


def _drop_output() -> None:
    """Let what standard output still holds go nowhere, or the interpreter's end would fail on it again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def main() -> None:
    """Entry point of the ``pvfast`` command."""
    cli(prog_name="pvfast")
