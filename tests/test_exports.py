"""What users import: exports agree, come from their home, are documented; their examples run."""

import ast
import doctest
import importlib
import inspect
import io
import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("causal", "recsys", "experiments")
EXPORTS = [(p, name) for p in PACKAGES for name in importlib.import_module(p).__all__]


def isort_key(name):
    """Constants, then classes, then functions, each by name."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def lazy_package(source):
    """`__all__`, `_HOMES` and the imports for type checkers of a package's `__init__`."""
    tree = ast.parse(source)
    literals = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        for alias in node.names
    }
    return literals.get("__all__"), literals.get("_HOMES"), typed


def export_complaints(source, module_names):
    """What is wrong with the lazy `__init__` of a package that holds these modules."""
    listed, homes, typed = lazy_package(source)
    if listed is None:
        return ["no literal __all__"]
    complaints = []
    if listed != sorted(set(listed), key=isort_key):
        complaints.append("__all__ is not sorted")
    if homes != typed:
        complaints.append("_HOMES and the imports for type checkers differ")
    if set(listed) != set(typed):
        complaints.append("__all__ and the imports for type checkers differ")
    if set(listed) & set(module_names):
        complaints.append(f"a module shadows {sorted(set(listed) & set(module_names))}")
    return complaints


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_agree_and_are_sorted(package):
    folder = ROOT / package
    source = (folder / "__init__.py").read_text(encoding="utf-8")
    assert export_complaints(source, {p.stem for p in folder.iterdir()}) == []


SOURCE = """
if TYPE_CHECKING:
    from p.m import A, run
__all__ = ["A", "run"]
_HOMES = {"A": "p.m", "run": "p.m"}
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("p.m", "p.other", None),
        ('["A", "run"]', '["run", "A"]', "not sorted"),
        ('["A", "run"]', '["A", "A", "run"]', "not sorted"),
        ('["A", "run"]', '["A"]', "__all__ and"),
        ('"run": "p.m"', '"run": "p.n"', "_HOMES and"),
        (', "run": "p.m"', "", "_HOMES and"),
        ("import A, run", "import A", "_HOMES and"),
        ("run", "m", "shadows"),
        ("__all__", "names", "no literal"),
    ],
)
def test_wrong_exports_are_found(old, new, complaint):
    complaints = export_complaints(SOURCE.replace(old, new), {"m", "data"})
    assert bool(complaints) == bool(complaint)
    assert complaint is None or any(complaint in each for each in complaints)


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_every_export_comes_from_its_home(package, name):
    module = importlib.import_module(package)
    value = getattr(module, name)
    assert name in dir(module)
    assert not inspect.ismodule(value)
    if isinstance(value, type | types.FunctionType):
        assert (value.__module__, value.__name__) == (module._HOMES[name], name)


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="nobody"):
        importlib.import_module(package).nobody  # noqa: B018 — the access is the test


def doc_complaints(value):
    """What a reader misses in the docstring of a class or function."""
    doc = inspect.getdoc(value) or ""
    if not doc:
        return ["no docstring"]
    sections = set(re.findall(r"^(\w+)\n-{3,}$", doc, flags=re.M))
    wanted = set()
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        wanted = {"Returns", "Examples"} | ({"Parameters"} if signature.parameters else set())
        missing = [p for p in signature.parameters if not re.search(rf"\b{re.escape(p)}\b", doc)]
    else:
        missing = []
    examples = doctest.DocTestParser().get_examples(doc)
    lines = sum(example.source.count("\n") for example in examples)
    return [
        *(f"no section {name}" for name in sorted(wanted - sections)),
        *(f"parameter {name} is not described" for name in missing),
        *(["an example of more than 6 lines"] if lines > 6 else []),
    ]


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_every_export_is_documented(package, name):
    value = getattr(importlib.import_module(package), name)
    if isinstance(value, type | types.FunctionType):
        assert doc_complaints(value) == []


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_examples_in_docstrings_run(package, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = getattr(importlib.import_module(package), name)
    if not isinstance(value, type | types.FunctionType):
        return
    home = sys.modules[value.__module__]
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder().find(value, name, module=home):
        runner.run(test, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


def _silent(x):
    pass


def _partly(x, y):
    """A number.

    Returns
    -------
    int
        About x.
    """


def _long():
    """A number.

    Returns
    -------
    int

    Examples
    --------
    >>> a = 1
    >>> b = 1
    >>> c = 1
    >>> d = 1
    >>> e = 1
    >>> f = 1
    >>> g = 1
    """


def _fine(x):
    """A number.

    Parameters
    ----------
    x : int

    Returns
    -------
    int

    Examples
    --------
    >>> 1 + 1
    2
    """


@pytest.mark.parametrize(
    ("value", "complaints"),
    [
        (_silent, ["no docstring"]),
        (
            _partly,
            ["no section Examples", "no section Parameters", "parameter y is not described"],
        ),
        (_long, ["an example of more than 6 lines"]),
        (_fine, []),
    ],
)
def test_poor_docstrings_are_found(value, complaints):
    assert doc_complaints(value) == complaints
