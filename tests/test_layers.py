"""The house rules: who may import whom, what a first import loads, what is banned.

Every rule is a function from a source text to complaints; `test_every_rule_can_fail` feeds each
one snippets that break it.
"""

import ast
import graphlib
import io
import json
import re
import subprocess
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("causal", "recsys", "experiments")
FOLDERS = (*PACKAGES, "benchmarks", "examples", "tests")

FORBIDDEN = {"causal": {"recsys", "experiments"}, "recsys": {"causal", "experiments"}}
CONFINED = {  # a library and the only places that may import it
    "torch": ("recsys/model/", "benchmarks/", "tests/"),
    "matplotlib": ("causal/plots.py", "benchmarks/", "examples/", "tests/"),
}
DRAWINGS = {"matplotlib": re.compile(r"causal/[a-z]+/([a-z]+_)*plots\.py")}  # and files by name
SLOW = {"dowhy", "econml"}  # ten seconds: never while a module loads
HEAVY = [
    "torch",
    "econml",
    "dowhy",
    "statsmodels",
    "sklearn",
    "matplotlib",
    "pyspark",
    "lightgbm",
]  # not before they are used
PRINTS = ("experiments/cli.py", "benchmarks/", "examples/", "recsys/data/make_", "tests/reference/")
MOST_LINES = 600
MOST_NEW_MODULES = 100
NO_NAMES = {"utils", "util", "common", "base", "core", "misc", "helpers"}
UNSAFE_CALLS = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "pandas.read_pickle", "joblib.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "subprocess.getoutput",
}  # fmt: skip
DYNAMIC = ("import_module", "__import__")
SQL_METHODS = {"execute", "executemany", "sql", "raw_sql", "query", "from_query"}


# --- reading sources ------------------------------------------------------------------------------


def house_files():
    """Relative path -> text of every Python file of the house."""
    found = (p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py")))
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in found}


@dataclass(frozen=True)
class Import:
    """One imported name: `module` as written, `name` if it came from there."""

    module: str
    name: str | None
    line: int
    lazy: bool  # inside a function
    typing_only: bool  # under `if TYPE_CHECKING:`


def imports(source):
    """Every import of a file, also by `import_module("...")` and `__import__("...")`."""
    found = []

    def visit(node, lazy, typing_only):
        where = {"line": getattr(node, "lineno", 0), "lazy": lazy, "typing_only": typing_only}
        if isinstance(node, ast.Import):
            found.extend(Import(a.name, None, **where) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(Import(node.module or "", a.name, **where) for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(DYNAMIC):
            literals = (a.value for a in node.args if isinstance(a, ast.Constant))
            found.extend(Import(str(value), None, **where) for value in literals)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, lazy, True)
            for child in node.orelse:
                visit(child, lazy, typing_only)
            return
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or inside, typing_only)

    visit(ast.parse(source), lazy=False, typing_only=False)
    return found


def module_name(path):
    """``causal.panel`` for ``causal/panel/__init__.py``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# --- rules over one file --------------------------------------------------------------------------


def wrong_layer(path, source):
    """Imports that the floors of the house forbid."""
    package = path.split("/")[0]
    for each in imports(source):
        root = each.module.split(".")[0]
        if root in FORBIDDEN.get(package, ()):
            yield f"{path}:{each.line} {package} imports {root}"
        if each.typing_only:
            continue
        named = root in DRAWINGS and DRAWINGS[root].fullmatch(path)
        if root in CONFINED and not path.startswith(CONFINED[root]) and not named:
            yield f"{path}:{each.line} imports {root}, which only {CONFINED[root][0]} may"
        if root in SLOW and not each.lazy and package in PACKAGES:
            yield f"{path}:{each.line} imports {root} while it loads"


def aliases(tree):
    """Local name -> dotted name of what was imported under it."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = ((a.name.split(".")[0], a) for a in node.names)
            names.update({a.asname or root: a.name if a.asname else root for root, a in roots})
        elif isinstance(node, ast.ImportFrom):
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def dotted(func, names):
    """The called function's full name as far as imports tell it."""
    head, _, rest = ast.unparse(func).partition(".")
    name = ".".join(filter(None, (names.get(head, head), rest)))
    return name.removeprefix("builtins.")


def unsafe_call(path, source):
    """Code that runs text or loads objects from outside."""
    tree = ast.parse(source)
    names = aliases(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, names)
        if name.startswith(("pickle.", "exec")) and path.startswith("tests/"):
            continue  # what the test itself has pickled, and the README's blocks
        if name in UNSAFE_CALLS or (name.endswith(".eval") and node.args):
            yield f"{path}:{node.lineno} calls {name}"
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg == "shell" and not off:
                yield f"{path}:{node.lineno} calls {name} through a shell"


def pasted(node, built):
    """Whether an expression is a text put together from parts."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(is_text(side) or pasted(side, built) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("format", "join", "replace") and is_text(node.func.value)
    return isinstance(node, ast.Name) and node.id in built


def is_text(node):
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def pasted_query(path, source):
    """Queries built from parts: a column called ``x; drop table`` would run."""
    if path.startswith(("tests/", "benchmarks/")):
        return  # names of their own making
    tree = ast.parse(source)
    built = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and pasted(node.value, ())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        given = [*node.args, *(k.value for k in node.keywords)]
        if method in SQL_METHODS and any(pasted(value, built) for value in given):
            yield f"{path}:{node.lineno} gives a pasted text to {method}"


def stray_print(path, source):
    """`print` outside the command line and scripts."""
    if path.startswith(PRINTS):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "builtins.print"):
            yield f"{path}:{node.lineno} prints"


def stray_assert(path, source):
    """`assert` outside tests: it vanishes under -O."""
    if path.startswith("tests/"):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            yield f"{path}:{node.lineno} asserts"


def open_end(path, source):
    """Comments that promise work."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string):
            yield f"{path}:{token.start[0]} {token.string}"


def too_long(path, source):
    """Files above the ceiling."""
    n = len(source.splitlines())
    if n > MOST_LINES:
        yield f"{path} has {n} lines, more than {MOST_LINES}"


def poor_name(path, _source):
    """Modules named after nothing, or too deep."""
    stem = Path(path).stem
    if stem in NO_NAMES or stem.endswith(("_helpers", "_utils")):
        yield f"{path} is named after nothing"
    if path.split("/")[0] in PACKAGES and path.count("/") > 2:
        yield f"{path} lies deeper than two levels"


FILE_RULES = (
    wrong_layer, unsafe_call, pasted_query, stray_print, stray_assert, open_end, too_long,
    poor_name,
)  # fmt: skip


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.__name__)
def test_house_files_keep_the_rule(rule):
    files = house_files()
    assert len(files) > 10
    assert [c for path, source in files.items() for c in rule(path, source)] == []


BAD = [
    (wrong_layer, "causal/x.py", "import recsys.log"),
    (wrong_layer, "causal/x.py", "def f():\n    from experiments.splits.ab import ab_test"),
    (wrong_layer, "causal/x.py", "import importlib\nimportlib.import_module('recsys')"),
    (wrong_layer, "recsys/x.py", "if TYPE_CHECKING:\n    from causal import Effect"),
    (wrong_layer, "recsys/log.py", "from experiments import ab_test"),
    (wrong_layer, "causal/x.py", "def f():\n    import torch"),
    (wrong_layer, "recsys/policy.py", "import torch.nn"),
    (wrong_layer, "experiments/report/report.py", "from matplotlib import pyplot"),
    (wrong_layer, "causal/did/regression.py", "def f():\n    import matplotlib.pyplot as plt"),
    (wrong_layer, "causal/panel/my_plots_too.py", "import matplotlib.pyplot as plt"),
    (wrong_layer, "causal/graphs/x.py", "from dowhy import gcm"),
    (unsafe_call, "causal/x.py", "eval('1')"),
    (unsafe_call, "causal/x.py", "import builtins\nbuiltins.exec('1')"),
    (unsafe_call, "causal/x.py", "frame.eval('a + b')"),
    (unsafe_call, "causal/x.py", "import pickle\npickle.load(f)"),
    (unsafe_call, "causal/x.py", "import pickle as p\np.loads(b)"),
    (unsafe_call, "causal/x.py", "from pickle import loads as read\nread(b)"),
    (unsafe_call, "causal/x.py", "import pandas as pd\npd.read_pickle(p)"),
    (unsafe_call, "causal/x.py", "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)"),
    (unsafe_call, "causal/x.py", "import os\nos.system('ls')"),
    (unsafe_call, "causal/x.py", "from os import system\nsystem('ls')"),
    (unsafe_call, "causal/x.py", "import subprocess\nsubprocess.run('ls', shell=True)"),
    (unsafe_call, "tests/x.py", "run('ls', shell=flag)"),
    (pasted_query, "causal/x.py", "con.execute(f'select {c} from t')"),
    (pasted_query, "causal/x.py", "con.sql('select %s from t' % c)"),
    (pasted_query, "causal/x.py", "con.sql('select {} from t'.format(c))"),
    (pasted_query, "causal/x.py", "frame.query('x > ' + limit)"),
    (pasted_query, "causal/x.py", "text = f'select {c}'\ncon.raw_sql(text)"),
    (pasted_query, "causal/x.py", "con.execute(query=f'select {c}')"),
    (stray_print, "causal/x.py", "def f():\n    print(1)"),
    (stray_assert, "causal/x.py", "assert x"),
    (stray_assert, "benchmarks/bench_ab.py", "assert x"),
    (open_end, "causal/x.py", "x = 1  # TODO later"),
    (open_end, "tests/x.py", "# FIXME"),
    (too_long, "causal/x.py", "x = 1\n" * (MOST_LINES + 1)),
    (poor_name, "causal/utils.py", ""),
    (poor_name, "recsys/log_helpers.py", ""),
    (poor_name, "causal/panel/staggered/csdid.py", ""),
]
GOOD = [
    (wrong_layer, "experiments/splits/ab.py", "from causal import Effect\nfrom recsys import auc"),
    (wrong_layer, "causal/effect.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
    (wrong_layer, "causal/plots.py", "import matplotlib.pyplot as plt"),
    (wrong_layer, "causal/did/plots.py", "import matplotlib.pyplot as plt"),
    (wrong_layer, "causal/staggered/group_time_plots.py", "import matplotlib.pyplot as plt"),
    (wrong_layer, "recsys/model/layers.py", "import torch"),
    (wrong_layer, "causal/graphs/x.py", "def f():\n    from dowhy import gcm"),
    (unsafe_call, "causal/x.py", "import yaml\nyaml.safe_load(t)\nmodel.eval()\npickle.dumps(x)"),
    (unsafe_call, "causal/x.py", "import subprocess\nsubprocess.run(['ls'], shell=False)"),
    (
        pasted_query,
        "causal/x.py",
        "con.execute('select ?', [x])\nlog.info(f'{x}')\ne.sql('duckdb')",
    ),
    (stray_print, "experiments/cli.py", "print(path)"),
    (stray_assert, "tests/test_x.py", "assert x"),
    (open_end, "causal/x.py", "todo = 'TODO'  # what is left"),
    (too_long, "causal/x.py", "x = 1\n" * MOST_LINES),
    (poor_name, "causal/did/regression.py", ""),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_every_rule_can_fail(rule, path, source):
    assert list(rule(path, source))
    assert {each[0] for each in BAD} == set(FILE_RULES)


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_rules_leave_good_code_alone(rule, path, source):
    assert list(rule(path, source)) == []


# --- import cycles --------------------------------------------------------------------------------


def exported_homes(source):
    """Name -> module in the `_HOMES` of a lazy package; empty for another file."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            return ast.literal_eval(node.value)
    return {}


def import_graph(files):
    """Module -> modules that it needs while it loads."""
    sources = {module_name(path): source for path, source in files.items()}
    homes = {m: exported_homes(s) for m, s in sources.items() if m in PACKAGES}
    graph = {}
    for module, source in sources.items():
        needed = set()
        for each in imports(source):
            if each.lazy or each.typing_only:
                continue
            submodule = f"{each.module}.{each.name}"
            home = homes.get(each.module, {}).get(each.name, each.module)
            needed.add(submodule if submodule in sources else home)
        graph[module] = {m for m in needed if m in sources}
    return graph


def cycle(files):
    """The modules of one import cycle, or nothing."""
    try:
        graphlib.TopologicalSorter(import_graph(files)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_modules_import_each_other_without_cycles():
    files = {p: s for p, s in house_files().items() if p.startswith(PACKAGES)}
    assert cycle(files) == []


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ("from causal.b import g", "from causal.a import f", True),
        ("from causal import b", "import causal.a", True),
        ("from causal import g", "from causal.a import f", True),  # through the lazy package
        ("from causal.b import g", "def late():\n    from causal.a import f", False),
        ("from causal.b import g", "if TYPE_CHECKING:\n    from causal.a import f", False),
    ],
)
def test_cycles_are_found(a, b, found):
    files = {"causal/__init__.py": "_HOMES = {'g': 'causal.b'}", "causal/a.py": a, "causal/b.py": b}
    assert bool(cycle(files)) == found


# --- what a first import loads --------------------------------------------------------------------


def loaded_by(code):
    """Names of the modules that `code` loads in a new interpreter, over pandas."""
    script = (
        "import json, sys, pandas\nbefore = set(sys.modules)\n"
        f"{code}\nsys.stdout.write(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def heavy(modules):
    return sorted({m.split(".")[0] for m in modules} & set(HEAVY))


@pytest.mark.parametrize("package", PACKAGES)
def test_first_import_is_light(package):
    modules = loaded_by(f"import {package}")
    assert package in modules
    assert len(modules) < MOST_NEW_MODULES
    assert heavy(modules) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_reading_every_export_loads_nothing_heavy(package):
    modules = loaded_by(f"import {package} as p\nfor name in p.__all__: getattr(p, name)")
    assert heavy(modules) == []


def test_weight_of_an_import_is_seen():
    modules = loaded_by("import matplotlib.pyplot")
    assert heavy(modules) == ["matplotlib"]
    assert len(modules) >= MOST_NEW_MODULES
