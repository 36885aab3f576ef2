"""A progress bar on standard error, for what takes over a second and only where somebody looks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_PATIENCE_SECONDS = 1.0


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callable[[int, int, str], None]]:
    """Lend a function to report progress with: (done, total, what comes next).

    Parameters
    ----------
    console : rich.console.Console, optional
        Standard error unless given; nothing is shown when it is no terminal.

    Examples
    --------
    >>> with progress_bar() as report:
    ...     report(0, 2, "irq_disable")
    """
    console = console or Console(stderr=True)
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console,
                   transient=True)
    task = bar.add_task("")
    start = time.monotonic()
    started = False

    def report(done: int, total: int, what: str) -> None:
        nonlocal started
        if not started and console.is_terminal and time.monotonic() - start > _PATIENCE_SECONDS:
            bar.start()
            started = True
        bar.update(task, completed=done, total=total, description=what)

    try:
        yield report
    finally:
        if started:
            bar.stop()
