"""From values to HTML: templates with autoescape, the style, drawings with ids of their own."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from experiments.report import wording

if TYPE_CHECKING:
    from experiments.report.svg import Days, Forest, Weights
    from experiments.report.svg_marks import Picture

LARGEST_PAGE = 300_000
_UNREADABLE = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if code not in (9, 10, 13)}


def filled_page(template: str, **values: Any) -> str:  # noqa: ANN401 — whatever a template shows
    """A page in HTML, complete in itself.

    Parameters
    ----------
    template : str
        File in `templates`. It gets `css`, and `draw(drawing)` for what `svg` and `svg_charts` lay
        out.
    **values
        What else it shows.

    Returns
    -------
    str
    """
    environment = _environment()
    number = iter(range(1, 10_000))

    def draw(drawing: Forest | Days | Weights | Picture) -> Markup:
        """The SVG of a drawing."""
        file = environment.get_template(drawing.template)
        return Markup(file.render(d=drawing, id=f"plot{next(number)}"))

    page = environment.get_template(template).render(css=_style(), draw=draw, **values)
    return "\n".join(line for line in page.splitlines() if line.strip()) + "\n"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Templates with autoescape; whatever is not text that a reader can see is replaced."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value.translate(_UNREADABLE) if isinstance(value, str) else value,
    )
    environment.filters.update(
        level=wording.level_in_percent,
        count=wording.count_text,
        counted=wording.counted,
        p=wording.p_text,
        percent=wording.percent,
        digits=wording.digits,
        signed=wording.signed,
        heading=lambda text: text[:1].upper() + text[1:],
        sentence=lambda text: text[:1].upper() + text[1:].rstrip(".") + "." if text else "",
    )
    return environment


@lru_cache(maxsize=1)
def _style() -> Markup:
    """The page's own style sheet."""
    style = (
        resources.files("experiments.report").joinpath("templates/report.css").read_text("utf-8")
    )
    return Markup(style)
