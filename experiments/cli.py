"""The command line: ``livelift report | check``.

Nothing heavy is imported before a command needs it, so that ``livelift --help`` answers at once.

Exit codes: 0 done; 1 unforeseen; 2 wrong usage, or a study that is absent or wrong in itself; 3
what only the data can tell; 4 the result could not be written (the old one is intact); 5
``--strict`` and a check failed (the report is written); 130 interrupted.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from experiments.study_result import StudyResult

UNFORESEEN, USAGE, DATA, WRITING, STRICT, INTERRUPTED = 1, 2, 3, 4, 5, 130

app = typer.Typer(
    name="livelift",
    help="What recommendation strategies cause: effects, experiments and policy values from logs.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """What recommendation strategies cause: effects, experiments and policy values from logs."""
    if version:
        import importlib.metadata  # noqa: PLC0415 — loaded only when used

        sys.stdout.write(f"livelift {importlib.metadata.version('livelift')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(USAGE)


@app.command()
def report(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY.yaml", help="The study file.")
    ] = None,
    *,
    built_in: Annotated[
        str | None, typer.Option(help="A study of shipped data instead of a file: open_bandit.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report; made if absent.")] = Path("out"),
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 5 if the split or the log check fails, or a guardrail is not held.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> int:
    """Read out a study: one HTML page, its numbers as JSON, its tables as Parquet.

    The path of the page is the last line on stdout.
    """
    if (study is None) == (built_in is None):
        raise typer.BadParameter("exactly one of STUDY.yaml and --built-in is required")
    result = _read_out(study, built_in, progress=not quiet and sys.stderr.isatty())
    from experiments.report import render  # noqa: PLC0415 — loaded only when used

    page = render(result, out).html
    sys.stdout.write(f"{page}\n")
    if strict and result.failures:
        _say(f"strict: {'; '.join(result.failures)}")
        return STRICT
    return 0


def _read_out(study: str | None, built_in: str | None, *, progress: bool) -> StudyResult:
    """The result of a study, with the command that asked for it."""
    from dataclasses import replace  # noqa: PLC0415 — loaded only when used

    from experiments.study_file import load_study  # noqa: PLC0415 — loaded only when used

    loaded = load_study(study) if study is not None else None
    from experiments.errors import DataError  # noqa: PLC0415 — loaded only when used
    from experiments.study import built_in_study, run_study  # noqa: PLC0415 — loaded only when used

    try:
        result = run_study(loaded or built_in_study(str(built_in)), progress=progress)
    except OSError as error:  # nothing is written yet
        where = error.filename or study or built_in
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from error
    command = shlex.join(["livelift", *sys.argv[1:]])
    return replace(result, provenance={**result.provenance, "command": command})


@app.command()
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Parquet: file, folder or pattern.")],
    *,
    schema: Annotated[
        Literal["scored_treatments", "any"],
        typer.Option(help="What it must be: a log of scored treatments, or any sound table."),
    ] = "scored_treatments",
) -> int:
    """Check that a log is whole and that every rule of its schema holds.

    Errors are lines on stderr, and the exit code is then 3.
    """
    from experiments.log_check import check_path  # noqa: PLC0415 — loaded only when used

    found = check_path(path, schema=schema)
    for message in found.warnings:
        _say(f"{path}: warning: {message}")
    for message in found.errors:
        _say(f"{path}: {message}")
    if found.errors:
        return DATA
    rules = "no error" if found.warnings else "every rule holds"
    sys.stdout.write(f"{path}: {found.n_rows:,} rows, {found.n_columns} columns, {rules}\n")
    return 0


def main() -> NoReturn:
    """Run the command line and exit with its code; an error is one line on stderr.

    ``LIVELIFT_DEBUG=1`` shows the traceback of whatever went wrong.
    """
    if not sys.warnoptions:
        # What deserves attention is collected for the report; the rest is noise of libraries.
        warnings.simplefilter("ignore")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer turns the interrupt into its code, without a word
            _say("interrupted")
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 — the last line of defence
        if os.environ.get("LIVELIFT_DEBUG") == "1" and not _is_usage(error):
            import traceback  # noqa: PLC0415 — loaded only when used

            traceback.print_exc()
        code, message = _complaint(error)
        _say(message)
    _leave(code if isinstance(code, int) else 0)


def _leave(code: int) -> NoReturn:
    """Exit; a reader that closed our stdout is no reason for another complaint."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _say(message: str) -> None:
    """One line on stderr."""
    line = " ".join(message.split())
    sys.stderr.write(f"livelift: {line}\n")


def _is_usage(error: BaseException) -> bool:
    """Whether typer refused the command line."""
    return isinstance(error, typer.TyperException)


def _complaint(error: BaseException) -> tuple[int, str]:
    """Exit code and message of whatever went wrong."""
    from experiments.errors import DataError, StudyError  # noqa: PLC0415 — loaded only when used

    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, "interrupted"
    if isinstance(error, StudyError):
        return USAGE, str(error)
    if isinstance(error, DataError):
        return DATA, str(error)
    if _is_usage(error):
        text = getattr(error, "format_message", error.__str__)()
        return USAGE, f"{text.rstrip('.')}; see livelift --help"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return WRITING, f"{where}the report could not be written: {error.strerror or error}"
    text = f"unforeseen {type(error).__name__}: {error}; LIVELIFT_DEBUG=1 shows the traceback"
    return UNFORESEEN, text
