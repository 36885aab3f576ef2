"""The ``pvfast`` command: arguments in, calls out; no logic.

Each command calls one function of pvfast and one of ``pvfast/report``, which it imports only then, so that
--help is quick. Next: ``experiments/matrix.py`` and ``paravirt/linux/listing.py``.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import click

import pvfast
from pvfast import __version__
from pvfast.errors import GuestError, PvfastError
from pvfast.processor import MODEL_FILE, MODELS

EXIT_FAILED, EXIT_NOT_MEASURED, EXIT_INTERRUPTED = 1, 3, 130
_EXIT_CODES = """
\b
Exit codes: 0 done; 1 failed, or a site is undecided in an image that was not
patched yet; 2 wrong usage; 3 could not measure; 130 stopped by Ctrl-C.
"""


class _Commands(click.Group):
    """Turns errors into one line and an exit code."""

    exit_failed = EXIT_FAILED

    def invoke(self, ctx: click.Context) -> object:
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout is not None:      # the shell's >&-
                    sys.stdout.flush()          # a full disk must not wait for the interpreter's end
        except PvfastError as error:
            click.echo(f"pvfast: error: {error}", err=True)
            ctx.exit(EXIT_NOT_MEASURED if isinstance(error, GuestError) else self.exit_failed)
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
            _drop_output()
            click.echo(f"pvfast: error: {_cannot(error)}", err=True)
            sys.exit(EXIT_FAILED)


def _cannot(error: OSError) -> str:
    what = "cannot write" if error.filename is None else f"cannot use {error.filename!r}"
    return f"{what}: {error.strerror or error}"


class _Gate(_Commands):
    """Exit code 1 is kept for regressions: whatever else goes wrong, nothing was measured."""

    exit_failed = EXIT_NOT_MEASURED

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OSError as error:
            click.echo(f"pvfast: error: {_cannot(error)}", err=True)
            ctx.exit(EXIT_NOT_MEASURED)


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_IMAGE = click.argument("image", type=click.Path())


class _Processor(click.ParamType):
    """A model's name, or a file of one."""

    name = "processor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value).endswith(MODEL_FILE):
            return str(value)
        _check_choice(None, [str(value).lower()], tuple(MODELS), " or a file of `pvfast calibrate`")
        return str(value).lower()


_GENERIC = next(iter(MODELS))
_PROCESSOR = click.option("--processor", type=_Processor(), default=_GENERIC, show_default=True,
                          metavar="NAME", help=f"Processor: {', '.join(MODELS)}, or a file of `pvfast calibrate`.")


@click.group(cls=_Commands, context_settings=_CONTEXT, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="pvfast")
def cli() -> None:
    """Exact, repeatable measurement of paravirtualization."""


@cli.command(epilog=_EXIT_CODES)
@click.argument("hypervisor", default="all")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--image", type=click.Path(),
              help="Run the patch sites of this 32-bit kernel (bzImage or ELF), not the built-in guest kernel.")
@_PROCESSOR
@click.option("--trace", is_flag=True, help="Show the operations of one iteration of NAME, as they happen.")
@click.option("--host-time/--no-host-time", default=True, show_default=True,
              help="Time the host too; every other figure is equal on every run.")
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw the overheads to this file, too; ends in .svg.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def run(ctx: click.Context, hypervisor: str, names: Sequence[str], image: str | None, processor: str, trace: bool,
        host_time: bool, plot: str | None, as_json: bool) -> None:
    """Measure workloads and operations with their patch sites as indirect calls, as direct calls and patched inline.

    HYPERVISOR is one of them, or all; each NAME a workload or an operation: all of them unless given.
    """
    from pvfast.report import plots, tables
    from pvfast.report.progress import progress_bar

    if plot is not None and not plot.endswith(plots.PLOT_FILE):
        raise click.BadParameter(f"a drawing's file ends in {plots.PLOT_FILE}", param_hint="--plot")
    if image is not None:
        if hypervisor not in ("native", "all") or trace or plot:
            raise click.UsageError("--image measures a kernel on bare hardware, by its operations: say native, and "
                                   "leave --trace and --plot out")
        from pvfast.experiments import kernel_operation_names, run_kernel
        from pvfast.images import load_kernel

        opened = load_kernel(image)
        _check_choice("NAME", names, kernel_operation_names(opened))
        with progress_bar() as report:
            kernel = run_kernel(opened, names, processor=processor, progress=report)
        _print(tables.to_json(kernel.as_dict())) if as_json else tables.show(tables.kernel_report(kernel))
        if not kernel.measured:
            ctx.exit(EXIT_NOT_MEASURED)
        return
    from pvfast.experiments import HYPERVISORS, operation_names, run_matrix, trace_iteration, workload_names
    from pvfast.paravirt.hypervisors import hypervisor_names

    _check_choice("HYPERVISOR", [hypervisor], ("all", *hypervisor_names()))
    _check_choice("NAME", names, (*workload_names(), *operation_names()))
    if trace:
        if hypervisor == "all" or len(names) != 1 or as_json or plot:
            raise click.UsageError("--trace shows one NAME under one HYPERVISOR, as a table")
        tables.show(tables.trace_report(f"{names[0]} under {hypervisor}", trace_iteration(hypervisor, names[0])))
        return
    chosen = HYPERVISORS if hypervisor == "all" else (hypervisor,)
    if plot is not None:
        _check_output(plot)
    with progress_bar() as report:
        matrix = run_matrix(chosen, names, host_time=host_time, processor=processor, progress=report)
    if plot is not None:
        plots.write_matrix_plot(plot, matrix)
    if as_json:
        _print(tables.to_json(matrix.as_dict()))
    else:
        tables.show(tables.matrix_report(matrix, sites=hypervisor != "all"))
    if not matrix.measured:
        ctx.exit(EXIT_NOT_MEASURED)


@cli.command(epilog=_EXIT_CODES)
@click.option("-o", "--output", type=click.Path(), default="report.html", show_default=True, help="The file to write.")
@click.option("--asv", "asv_results", type=click.Path(),
              help="Plot the history in this folder of asv's results; .asv/results unless given, if it is there.")
def report(output: str, asv_results: str | None) -> None:
    """Measure everything, and write one HTML page that works offline.

    It has the matrix, histograms of operations, overheads by processor model, a profile by guest symbol, every patch
    site, and asv's history.
    """
    from pvfast.report.contents import gather
    from pvfast.report.history import read_history, usual_history
    from pvfast.report.html import render_page
    from pvfast.report.progress import progress_bar
    from pvfast.report.provenance import this_run

    _check_output(output)
    history, problem = usual_history() if asv_results is None else (read_history(asv_results), "")
    if problem:
        click.echo(f"pvfast: the page has no history: {problem}", err=True)
    with progress_bar() as progress:
        contents = gather(history=history, progress=progress)
    _write(output, render_page(contents, this_run()))
    click.echo(output)


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
@click.option("--hypervisor", type=click.Choice(["native", "xen"]), default="native", show_default=True,
              help="What the kernel boots on; xen: as a PV guest, x86-64 since Linux 4.20.")
@click.option("--vcpus", type=click.IntRange(min=1),
              help="Virtual CPUs that Xen gives: sites of spinlocks depend on whether there are several, and are "
              "undecided unless given.")
@click.option("--cpu", type=click.Choice(["generic", "k7", "k8", "p6"]),
              help="Whose NOPs fill the sites; generic in 32-bit kernels and p6 in 64-bit ones unless given. "
              "k8: also Intel from Core 2 to Sandy Bridge before Linux 5.13.")
@click.option("--csv", "as_csv", is_flag=True, help="Columns site,type,op,len,section,before,after.")
@click.option("-o", "--output", type=click.Path(), help="Write the kernel, patched, as an ELF file.")
@click.pass_context
def patch(ctx: click.Context, image: str, hypervisor: str, vcpus: int | None, cpu: str | None, as_csv: bool,
          output: str | None) -> None:
    """Compute what its own boot makes of every patch site of a kernel IMAGE."""
    from pvfast.images import load_kernel
    from pvfast.paravirt.linux import PATCHED_ALREADY, boot_patch, patch_csv, write_patched
    from pvfast.report import tables

    if vcpus is not None and hypervisor == "native":
        raise click.UsageError("--vcpus is for --hypervisor xen")
    if output and _same_file(output, image):
        raise click.BadParameter("that is the input image, which stays as it is: name another file", param_hint="-o")
    kernel = load_kernel(image)
    patched = boot_patch(kernel, cpu=cpu, hypervisor=hypervisor, vcpus=vcpus)
    if output is not None:
        write_patched(kernel, patched, output)
    if as_csv:
        click.echo(patch_csv(patched.sites), nl=False)
    else:
        tables.show(tables.patch_report(patched.sites, kernel.bits))
    undecided = [site for site in patched.sites if site.reason]
    if undecided:
        click.echo(f"pvfast: {len(undecided)} of {len(patched.sites)} sites are undecided, the first because "
                   f"{undecided[0].reason}", err=True)
    if any(site.reason != PATCHED_ALREADY for site in undecided):
        ctx.exit(EXIT_FAILED)


@cli.command(epilog=_EXIT_CODES)
@click.argument("name", required=False, type=_Processor())
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def models(name: str | None, as_json: bool) -> None:
    """List the processor models, or what one, NAME or a file, charges and where each number is from."""
    from pvfast.processor import load_model
    from pvfast.report import tables

    if name is None:
        found = [load_model(each) for each in MODELS]
        _print(tables.models_json(found)) if as_json else tables.show(tables.models_report(found))
        return
    model = load_model(name)
    _print(tables.model_json(model)) if as_json else tables.show(tables.model_report(model))


@cli.command(epilog=_EXIT_CODES)
@click.option("-o", "--output", type=click.Path(), help="Write a model of this host, for --processor; ends in .json.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def calibrate(output: str | None, as_json: bool) -> None:
    """Run the talk's call sites on this host's own processor, and put a model of it beside what they took."""
    from pvfast.experiments.calibration import calibrate, write_model
    from pvfast.report import tables

    if output is not None and not output.endswith(MODEL_FILE):
        raise click.BadParameter(f"a model's file ends in {MODEL_FILE}", param_hint="-o")
    found = calibrate()
    if output is not None:
        write_model(output, found)
    _print(tables.to_json(found.as_dict())) if as_json else tables.show(tables.calibration_report(found))


@cli.command(epilog=_EXIT_CODES)
@click.argument("mnemonic", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def isa(mnemonic: str | None, as_json: bool) -> None:
    """List the instructions that the core executes, or the forms of one MNEMONIC."""
    from pvfast.isa.forms import FORMS
    from pvfast.report import tables
    from pvfast.report.suggestions import suggest_mnemonics

    forms = [row for row in FORMS if mnemonic is None or row.mnemonic == mnemonic.upper()]
    if not forms:
        close = suggest_mnemonics(mnemonic or "", {row.mnemonic for row in FORMS})
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise PvfastError(f"no instruction {mnemonic!r}: {hint}`pvfast isa` lists them all")
    _print(tables.isa_json(forms)) if as_json else tables.show(tables.isa_report(forms))


_EXIT_CODES_OF_GATE = """
\b
Exit codes: 0 pass; 1 regression; 2 wrong usage; 3 could not measure; 4 the
baseline is stale (nothing is slower); 130 stopped by Ctrl-C.
"""
_BASELINE = click.option("--baseline", type=click.Path(), default="pvfast-baseline.json", show_default=True,
                         help="The committed figures.")
_GATED_IMAGE = click.option("--image", type=click.Path(),
                            help="Every patch site of this kernel (bzImage or ELF), not the built-in guest kernel.")


@cli.group(cls=_Gate, epilog=_EXIT_CODES_OF_GATE)
def gate() -> None:
    """Fail when a commit makes the dispatch path slower; say where and why."""


def _compared(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what compares; which processor is the baseline's to say."""
    for option in reversed((
        _BASELINE, _GATED_IMAGE,
        click.option("--hypervisor", "hypervisors", multiple=True, metavar="NAME",
                     help="Only this one; may be given again."),
        click.option("--operation", "operations", multiple=True, metavar="NAME",
                     help="Only this one, or this workload; may be given again."),
        click.option("--tolerance", type=click.FloatRange(0, 100), default=0.0, metavar="PERCENT",
                     help="Forgive differences up to this; the figures are exact, so none is needed."),
        click.option("--json", "as_json", is_flag=True, help="For machines."),
    )):
        command = option(command)
    return command


@gate.command(epilog=_EXIT_CODES_OF_GATE)
@_compared
@click.option("--junit", type=click.Path(), help="Write JUnit XML to this file, too.")
@click.pass_context
def check(ctx: click.Context, junit: str | None, as_json: bool, **asked: Any) -> None:
    """Measure, and compare exactly with the baseline."""
    from pvfast.gate import formats

    report = _judge(**asked)
    _tell_ci(report)
    if junit is not None:
        _write(junit, formats.to_junit(report))
    _print(formats.to_json(report) if as_json else formats.to_text(report, explained=False))
    ctx.exit(report.verdict)


@gate.command(epilog=_EXIT_CODES_OF_GATE)
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@_compared
@click.pass_context
def explain(ctx: click.Context, rows: Sequence[str], as_json: bool, **asked: Any) -> None:
    """Show why figures changed: sites, bytes, executed instructions, then and now.

    ROW is the beginning of a name such as native/irq_disable; without one, every row that changed is explained.
    """
    from pvfast.gate import formats

    report = _judge(**asked, rows=rows)
    if rows and not report.explanations:
        raise click.BadParameter(f"no row starts with {' or '.join(rows)}; the baseline has "
                                 f"{', '.join(sorted(report.before.sites)[:5])} ...", param_hint="ROW")
    _print(formats.to_json(report) if as_json else formats.to_text(report, explained=True))
    ctx.exit(report.verdict)


@gate.command(epilog=_EXIT_CODES_OF_GATE)
@_BASELINE
@_GATED_IMAGE
@_PROCESSOR
def update(baseline: str, image: str | None, processor: str) -> None:
    """Measure, and write the baseline anew, to be committed."""
    from pvfast.gate import write_baseline

    measurement = _measure_for_gate(image, processor)
    write_baseline(baseline, measurement)
    skipped = len(measurement.skipped)
    _print(f"{baseline}: {len(measurement.points)} points, {skipped} row{'s' * (skipped != 1)} skipped")


@gate.command(name="time", epilog=_EXIT_CODES_OF_GATE)
@click.argument("base")
@click.argument("head", required=False)
@click.option("--pairs", type=click.IntRange(min=40), default=40, show_default=True, help="Times each build runs.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def host_time(ctx: click.Context, base: str, head: str | None, pairs: int, as_json: bool) -> None:
    """Compare the host's time of two builds, in turn; the exact figures need no such thing.

    BASE and HEAD are Python interpreters that have pvfast, or source trees with the core built in them; HEAD is this
    pvfast unless given. Fails when a loop is over 3 % slower at 99 % confidence, twice.
    """
    from pvfast.gate import formats
    from pvfast.gate.host_time import Build, judge_times
    from pvfast.report.progress import progress_bar

    own = os.path.dirname(os.path.dirname(os.path.abspath(pvfast.__file__)))
    with progress_bar() as report:
        found = judge_times(partial(Build, base), partial(Build, head or own), pairs, report)
    _print(formats.times_to_json(found)) if as_json else _print(formats.times_to_text(found))
    ctx.exit(found.verdict)


def _measure_for_gate(image: str | None, processor: str, hypervisors: Sequence[str] = (),
                      operations: Sequence[str] = ()) -> Any:
    from pvfast.experiments import operation_names, workload_names
    from pvfast.gate import measure_guest, measure_kernel
    from pvfast.paravirt.hypervisors import hypervisor_names
    from pvfast.report.progress import progress_bar

    if image is not None and (hypervisors or operations):
        raise click.UsageError("--image compares every patch site: leave --hypervisor and --operation out")
    _check_choice("--hypervisor", hypervisors, hypervisor_names())
    _check_choice("--operation", operations, (*operation_names(), *workload_names()))
    with progress_bar() as report:
        if image is not None:
            return measure_kernel(image, processor=processor, progress=report)
        return measure_guest(hypervisors, operations, processor=processor, progress=report)


def _judge(baseline: str, image: str | None, hypervisors: Sequence[str] = (),
           operations: Sequence[str] = (), tolerance: float = 0.0, rows: Sequence[str] = ()) -> Any:
    from pvfast.gate import judge, read_baseline

    if math.isnan(tolerance):
        raise click.BadParameter("a tolerance is a number of per cent", param_hint="--tolerance")
    before = read_baseline(baseline)
    after = _measure_for_gate(image, before.subject.get("processor", _GENERIC), hypervisors, operations)
    return judge(baseline, before, after, hypervisors=hypervisors, operations=operations,
                 tolerance_percent=tolerance, rows=rows)


def _tell_ci(report: Any) -> None:
    """The summary page and the annotation of GitHub Actions, when that is where we run."""
    from pvfast.gate import formats

    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(summary, formats.to_markdown(report), mode="a")
    if os.environ.get("GITHUB_ACTIONS") == "true" and (annotation := formats.to_annotation(report)):
        click.echo(annotation, err=True)


def _check_output(path: str) -> None:
    """Find out before the work that a file cannot be written; opening it would truncate it, or end a pipe's reader."""
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        problem = errno.EISDIR
    elif not (name and os.path.isdir(folder or os.curdir)):
        problem = errno.ENOENT
    elif not os.access(path if os.path.exists(path) else folder or os.curdir, os.W_OK):
        problem = errno.EACCES
    else:
        return
    raise OSError(problem, os.strerror(problem), path)


def _write(path: str, text: str, mode: str = "w") -> None:
    with open(path, mode, encoding="utf-8") as file:
        file.write(text)


def _print(text: str) -> None:
    """To standard output. Whoever reads it may go away: that changes neither the verdict nor the exit code."""
    try:
        click.echo(text)
    except BrokenPipeError:
        _drop_output()


def _check_choice(option: str | None, given: Sequence[str], known: Sequence[str], others: str = "") -> None:
    for name in given:
        if name not in known:
            close = get_close_matches(name, known)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise click.BadParameter(f"no {name!r}: {hint}choose from {', '.join(known)}{others}", param_hint=option)


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
