"""The command line: ``livelift report | check | simulate | plan``.

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
    from collections.abc import Sequence

    from experiments.study.study_result import StudyResult
    from experiments.study.study_schema import Study

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
            help="Exit with 5 if the split or the log check fails, a guardrail is not held, or "
            "treated and controls differ before the start.",
        ),
    ] = False,
    designs: Annotated[
        bool,
        typer.Option(
            "--designs", help="Also say which experiment to run, from designs on the platform."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> int:
    """Read out a study: one HTML page, its numbers as JSON, its tables as Parquet.

    The path of the page is the last line on stdout.
    """
    if (study is None) == (built_in is None):
        raise typer.BadParameter("exactly one of STUDY.yaml and --built-in is required")
    progress = not quiet and sys.stderr.isatty()
    from experiments.study.study_file import load_study  # noqa: PLC0415 — loaded only when used

    loaded = load_study(study) if study is not None else None
    if loaded is not None and loaded.panel is not None:
        if designs:
            raise typer.BadParameter("--designs goes with a study of arms; leave it out")
        return _read_panel(loaded, out, strict=strict)
    result = _read_out(loaded, built_in, progress=progress)
    if designs:
        from dataclasses import replace  # noqa: PLC0415 — loaded only when used

        from experiments.study.platform_question import (  # noqa: PLC0415 — loaded only when used
            designs_on_platform,
        )

        result = replace(result, designs=designs_on_platform(n_jobs=2, progress=progress))
    from experiments.report.report import render  # noqa: PLC0415 — loaded only when used

    page = render(result, out).html
    return _written(page, result.failures, strict=strict)


def _written(page: Path, failures: Sequence[str], *, strict: bool) -> int:
    """Say where the page is, and under ``--strict`` what failed; gives the exit code."""
    sys.stdout.write(f"{page}\n")
    if strict and failures:
        _say(f"strict: {'; '.join(failures)}")
        return STRICT
    return 0


def _read_panel(study: Study, out: Path, *, strict: bool) -> int:
    """Read out a panel study and write its page; gives the exit code."""
    from dataclasses import replace  # noqa: PLC0415 — loaded only when used

    from experiments.errors import DataError  # noqa: PLC0415 — loaded only when used
    from experiments.study.panel_study import run_panel  # noqa: PLC0415 — loaded only when used

    try:
        result = run_panel(study)
    except OSError as error:  # nothing is written yet
        where = error.filename or study.file
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from error
    command = shlex.join(["livelift", *sys.argv[1:]])
    result = replace(result, facts={**result.facts, "Command": command})
    return _written(result.write(out).html, result.failures, strict=strict)


def _read_out(study: Study | None, built_in: str | None, *, progress: bool) -> StudyResult:
    """The result of a study, with the command that asked for it."""
    from dataclasses import replace  # noqa: PLC0415 — loaded only when used

    from experiments.errors import DataError  # noqa: PLC0415 — loaded only when used
    from experiments.study.study import built_in_study, run_study  # noqa: PLC0415 — loaded only when used

    try:
        result = run_study(study or built_in_study(str(built_in)), progress=progress)
    except OSError as error:  # nothing is written yet
        where = error.filename or (study.file if study is not None else built_in)
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
    from experiments.study.log_check import check_path  # noqa: PLC0415 — loaded only when used

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


@app.command()
def simulate(
    study: Annotated[
        str, typer.Argument(metavar="STUDY.yaml", help="A study with platform and trials.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the report; made if absent.")] = Path("sim"),
    n_jobs: Annotated[
        int, typer.Option(help="Workers; -1 takes all cores. The numbers do not depend on it.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="In place of the study's own seed.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> int:
    """Say which experiment to run: designs on the simulated platform, each against the truth.

    Writes report.html, report.json, comparison.parquet and estimates.parquet; the path of the page
    is the last line on stdout.
    """
    if n_jobs == 0 or n_jobs < -1:
        raise typer.BadParameter(f"--n-jobs must be a number of workers, or -1; got {n_jobs}")
    from experiments.study.study_file import load_study  # noqa: PLC0415 — loaded only when used

    loaded = load_study(study)
    from experiments.study.simulated_study import run_simulation  # noqa: PLC0415 — loaded only when used

    progress = not quiet and sys.stderr.isatty()
    result = run_simulation(loaded, n_jobs=n_jobs, seed=seed, progress=progress)
    for message in result.warnings:
        _say(f"{study}: warning: {message}")
    sys.stdout.write(f"{result.write(out).html}\n")
    return 0


@app.command()
def plan(  # noqa: PLR0913 — columns and constraints, each by name
    pilot: Annotated[
        str, typer.Argument(metavar="PILOT.parquet", help="Parquet: file, folder or pattern.")
    ],
    *,
    outcome: Annotated[str, typer.Option(help="Column of the outcome.")],
    time: Annotated[str, typer.Option(help="Column of instants.")],
    effect: Annotated[
        float, typer.Option(help="The total effect to be found, in the units of the outcome.")
    ],
    days: Annotated[float, typer.Option(min=1, help="Length of the experiment.")] = 14,
    treatment: Annotated[
        str | None, typer.Option(help="Column of 0 and 1, of a pilot that was treated.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Column of the region.")] = None,
    pilot_schedule: Annotated[
        Path | None, typer.Option(help="The pilot's own schedule: .csv or .json.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="Parquet of past experiments, or of past data.")
    ] = None,
    min_slice_minutes: Annotated[float, typer.Option(help="Shortest slice allowed.")] = 30,
    max_slice_minutes: Annotated[float, typer.Option(help="Longest slice allowed.")] = 2880,
    max_days: Annotated[float, typer.Option(help="Longest experiment allowed.")] = 28,
    n_regions: Annotated[int, typer.Option(help="Regions with coins of their own.")] = 1,
    max_treated_share: Annotated[float, typer.Option(help="Largest share treated at once.")] = 1.0,
    viewers: Annotated[bool, typer.Option(help="Viewers may be drawn by lot.")] = True,
    authors: Annotated[bool, typer.Option(help="Authors may be drawn by lot.")] = True,
    time_slices: Annotated[bool, typer.Option(help="Slices of time may be drawn by lot.")] = True,
    criterion: Annotated[
        Literal["minimax_regret", "bayes"], typer.Option(help="How designs are ranked.")
    ] = "minimax_regret",
    seed: Annotated[int, typer.Option(min=0, help="Of the schedule.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the plan; made if absent.")] = Path("plan"),
) -> int:
    """Plan an experiment from a pilot: which design, which slices, how long; and its schedule.

    Writes plan.html, plan.json, schedule.csv and table.parquet; the path of the page is the last
    line on stdout.
    """
    from experiments.planning.pilot_plan import Wishes, in_options, plan_from_pilot  # noqa: PLC0415 — loaded only when used
    from experiments.planning.recommendation import Constraints  # noqa: PLC0415 — loaded only when used

    try:
        rules = Constraints(
            min_slice_minutes=min_slice_minutes,
            max_slice_minutes=max_slice_minutes,
            max_days=max_days,
            randomise_viewers=viewers,
            randomise_authors=authors,
            randomise_time=time_slices,
            n_regions=n_regions,
            max_treated_share=max_treated_share,
        )
    except ValueError as error:
        raise typer.BadParameter(in_options(str(error))) from error
    if effect == 0 or effect != effect or abs(effect) == float("inf"):
        raise typer.BadParameter(f"--effect must be a number other than 0; got {effect:g}")
    if days > max_days:
        raise typer.BadParameter(f"--days must be at most --max-days {max_days:g}; got {days:g}")
    if n_regions > 1 and unit is None:
        raise typer.BadParameter(f"--n-regions {n_regions} needs --unit, the column of the region")
    if history is None and not (viewers or authors or time_slices):
        raise typer.BadParameter(
            "--no-viewers --no-authors --no-time-slices leave nothing to draw by lot; allow one of "
            "them, or give past data as --history, on which launches can be tried"
        )
    wishes = Wishes(
        outcome=outcome,
        time=time,
        effect=effect,
        days=days,
        constraints=rules,
        treatment=treatment,
        unit=unit,
        schedule=pilot_schedule,
        history=history,
        criterion=criterion,
        seed=seed,
    )
    files = plan_from_pilot(pilot, wishes, out)
    if not any(path.name == "schedule.csv" for path in files.tables):
        _say("the best design is no rotation: there is no schedule.csv")
    sys.stdout.write(f"{files.html}\n")
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
    where = "".join(f"; {note}" for note in getattr(error, "__notes__", ())[:1])
    said = f"unforeseen {type(error).__name__}: {error}{where}"
    text = f"{said}; LIVELIFT_DEBUG=1 shows the traceback"
    return UNFORESEEN, text
