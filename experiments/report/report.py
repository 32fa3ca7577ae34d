"""One self-contained HTML page, one JSON file and Parquet tables from a study's result."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.atomic import write_set
from experiments.report.answer import ranking, three_sentences
from experiments.report.report_templates import LARGEST_PAGE, filled_page
from experiments.report.report_view import curve_views, methods_view, policy_views, scorecard_views
from experiments.report.rounding import json_rounded
from experiments.study.study_result import (
    check_rows,
    curve_rows,
    designs_rows,
    overlap_rows,
    policy_rows,
    scorecard_rows,
    weight_rows,
)

if TYPE_CHECKING:
    import pandas as pd

    from experiments.study.study_result import StudyResult

SCHEMA_VERSION = 1
_SIZES = ((24, 200), (12, 60), (6, 30), (0, 15), (0, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """What `render` wrote: the page, its numbers, its tables."""

    html: Path
    json: Path
    tables: tuple[Path, ...]


def render(result: StudyResult, folder: Path, *, name: str = "report") -> ReportFiles:
    """Write the page, the JSON and the tables of a result.

    Parameters
    ----------
    result : StudyResult
        From `run_study`.
    folder : Path
        Made if absent. An older report in it is replaced only when the new one is complete.
    name : str
        File name of the page and of the JSON, without ending.

    Returns
    -------
    ReportFiles
        Paths that were written.

    Raises
    ------
    ValueError
        If `name` is not a plain file name.
    OSError
        If the folder cannot be written, or another run has been writing there for 10 s; the old
        report is then intact.

    Notes
    -----
    The JSON holds every number of the page. Amounts are rounded to 12 significant digits (an effect
    near 0 by its control level), p-values to 9, so that runs on other numbers of
    threads, whose sums differ in the last bits, write the same. Two runs on the same data differ
    only in `created_at` and `provenance`; `checksum` is the SHA-256 of the rest. The
    page stays below 300 KB: where a study has more curves, policies or rows than fit, it shows the
    first ones and says how many more there are, and which table holds them.

    Examples
    --------
    >>> from experiments import built_in_study, render, run_study  # doctest: +SKIP
    >>> render(run_study(built_in_study()), Path("out")).html  # doctest: +SKIP
    PosixPath('out/report.html')
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"name must be a plain file name; got {name!r}")
    created_at = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
    document = report_document(result, created_at=created_at)
    page = report_page(result, created_at=created_at, checksum=str(document["checksum"]), name=name)
    tables = {f"tables/{key}.parquet": _parquet(frame) for key, frame in result.tables.items()}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    folder = Path(folder)
    write_set(
        folder,
        {
            **tables,
            f"{name}.json": (text + "\n").encode("utf-8", "replace"),
            f"{name}.html": page.encode("utf-8", "replace"),
        },
    )
    return ReportFiles(
        html=folder / f"{name}.html",
        json=folder / f"{name}.json",
        tables=tuple(folder / key for key in tables),
    )


def report_document(result: StudyResult, *, created_at: str) -> dict[str, Any]:
    """Every number of the page as plain JSON values.

    Parameters
    ----------
    result : StudyResult
    created_at : str
        Time in ISO 8601.

    Returns
    -------
    dict
        `schema_version title created_at provenance checksum verdict checks scorecard curves
        policy_values designs warnings notes`; numbers have at most 12 significant digits.
    """
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "title": result.title,
        "verdict": {
            "answer": list(three_sentences(result)),
            "level": result.level,
            "sections": [
                {
                    "section": section.name,
                    "verdict": str(section.scorecard.verdict),
                    "reason": section.scorecard.reason,
                }
                for section in result.sections
                if section.scorecard is not None
            ],
        },
        "checks": {
            "logs": [
                {
                    "section": section.name,
                    "n_rows": section.log.n_rows,
                    "first": section.log.first,
                    "last": section.log.last,
                    "unit": section.log.unit,
                    "n_units": section.log.n_units,
                    "arms": dict(section.log.arms),
                }
                for section in result.sections
            ],
            "findings": list(check_rows(result)),
        },
        "scorecard": list(scorecard_rows(result)),
        "curves": list(curve_rows(result)),
        "policy_values": {
            "values": list(policy_rows(result)),
            "overlap": list(overlap_rows(result)),
            "weights": list(weight_rows(result)),
        },
        "designs": designs_rows(result),
        "warnings": list(result.warnings),
        "notes": list(result.notes),
    }
    content = json_rounded(content)
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    head = {"schema_version": SCHEMA_VERSION, "title": result.title, "created_at": created_at}
    return {
        **head,
        "provenance": json_rounded(result.provenance),
        "checksum": hashlib.sha256(canonical.encode()).hexdigest(),
        **{key: value for key, value in content.items() if key not in head},
    }


def report_page(result: StudyResult, *, created_at: str, checksum: str, name: str) -> str:
    """The page; smaller selections are tried until it is below 300 KB.

    Parameters
    ----------
    result : StudyResult
    created_at, checksum, name : str
        Shown under provenance.

    Returns
    -------
    str
        HTML, complete in itself.
    """
    page = ""
    for drawings, rows in _SIZES:
        page = _page(
            result,
            drawings=drawings,
            rows=rows,
            created_at=created_at,
            checksum=checksum,
            name=name,
        )
        if len(page.encode("utf-8", "replace")) < LARGEST_PAGE:
            break
    return page


def _page(result: StudyResult, *, drawings: int, rows: int, **texts: str) -> str:
    """The page with at most so many drawings of curves and of policies, and rows of a table."""
    return filled_page(
        "report.html.j2",
        r=result,
        answer=three_sentences(result),
        ranking=ranking([p for s in result.sections for p in s.policies], result.level),
        scorecards=scorecard_views(result),
        curves=curve_views(result, most_drawings=drawings),
        curve_kinds={curve.kind for section in result.sections for curve in section.curves},
        policies=policy_views(result, most_drawings=drawings, most=rows),
        used=methods_view(result),
        limits={"rows": rows},
        **texts,
    )


def _parquet(frame: pd.DataFrame) -> bytes:
    """A table as Parquet, its numbers rounded as in the JSON."""
    rows = [json_rounded(row) for row in frame.to_dict("records")]
    columns = {str(name): [row[name] for row in rows] for name in frame.columns}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()
