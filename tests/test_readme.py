"""Every block of the README runs, and prints what the README says."""

import contextlib
import fnmatch
import io
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("causal", "recsys", "experiments")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
CODE = [text for kind, text in BLOCKS if kind == "python"]
SAID = [text for kind, text in BLOCKS if kind == "text"]
SHELL = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
]


@pytest.mark.parametrize("index", range(len(CODE)))
def test_readme_code_prints_what_it_says(index: int) -> None:
    out = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out):
        warnings.simplefilter("ignore")
        exec(compile(CODE[index], f"README block {index}", "exec"), {})  # noqa: S102 — our own page
    assert out.getvalue().strip() == SAID[index].strip()


def test_readme_commands_exist() -> None:
    commands = [line.split()[1] for line in SHELL if line.startswith("./run ")]
    script = (ROOT / "run").read_text()
    assert commands == ["report", "test"]
    assert all(re.search(rf"^    {c}\)", script, flags=re.MULTILINE) for c in commands)


def test_readme_study_commands_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("data"))
    ours = [line for line in SHELL if line.startswith(("python ", "livelift "))]
    assert len(ours) == 6
    for line in ours:
        words = [w.strip('"') for w in line.split()]
        program = (
            [sys.executable]
            if words[0] == "python"
            else [str(Path(sys.executable).parent / "livelift")]
        )
        done = subprocess.run([*program, *words[1:]], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for page in ("report.html", "sim/report.html", "plan/plan.html"):
        assert (tmp_path / "out" / page).exists()


def test_readme_map_names_every_module_and_folder() -> None:
    tree = next(text for kind, text in BLOCKS if kind == "text" and "causal/ " in text)
    patterns = re.findall(r"([\w*]+)\.py", tree)
    modules = {p.stem for package in PACKAGES for p in (ROOT / package).glob("*.py")}
    unnamed = {
        m for m in modules - {"__init__"} if not any(fnmatch.fnmatch(m, x) for x in patterns)
    }
    assert not unnamed
    folders = {
        p.parent.name for package in PACKAGES for p in (ROOT / package).glob("*/__init__.py")
    }
    assert {f for f in folders if f"  {f}/ " not in tree} == set()
    known = {p.stem for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    assert all(fnmatch.filter(known, x) for x in patterns)


@pytest.mark.parametrize("script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_notebook_and_its_script_are_the_same(script: Path) -> None:
    pair = jupytext.read(script.with_suffix(".ipynb"))
    ours = [(c.cell_type, c.source) for c in jupytext.read(script).cells]
    assert [(c.cell_type, c.source) for c in pair.cells] == ours
