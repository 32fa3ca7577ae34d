"""The public entries that read a user's table: a valid table for each and one way to call it.

The house-wide suites (bad input, the contract of results) run over `ENTRIES`. Functions are looked
up when they are called. A new entry adds one `Entry` here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from entry_tables import (
    POINTS,
    TARGET_LOG,
    battle_log,
    city_log,
    experiment_log,
    launch_log,
    pair_log,
    pilot_log,
    policy_log,
    rotation_log,
    saturation_log,
    slate_log,
    staggered_log,
)

import causal
import experiments

Columns = dict[str, str]


# --- entries --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One way to call a public function.

    `call(table, columns, **options)` gets the column that plays each role. `numbers`, `labels`,
    `probabilities` and `weights` say what may go wrong in which role.
    """

    name: str
    call: Callable[..., Any]
    table: Callable[[], pd.DataFrame]
    numbers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    probabilities: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    drops_missing: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that a column plays."""
        return (*self.numbers, *self.labels, *self.probabilities, *self.weights)

    def run(self, table: Any = None, columns: Columns | None = None, **options: Any) -> Any:
        """The result on `table`, where `columns` renames roles."""
        names = {role: role for role in self.roles} | (columns or {})
        given = self.table() if table is None else table
        return self.call(given, names, **{**self.options, **options})

    def __str__(self) -> str:
        return self.name


def mean(c: Columns, **options: Any) -> Any:
    return experiments.Mean(c["outcome"], covariates=[c["covariate"]], **options)


def _ab_test(table, c, **options):
    return experiments.ab_test(table, metric=mean(c), arm=c["arm"], cluster=c["cluster"], **options)


def _ab_test_rows(table, c, **options):
    roles = {"unit": c["unit"], "arm": c["arm"]}
    return experiments.ab_test(table, metric=c["outcome"], **roles, **options)


def _ab_test_weighted(table, c, **options):
    roles = {"weight": c["weight"], "arm": c["arm"]}
    return experiments.ab_test(table, metric=c["outcome"], **roles, **options)


def _ab_tests(table, c, **options):
    metrics = {"watch": mean(c), "rate": (c["clicks"], c["views"])}
    roles = {"arm": c["arm"], "cluster": c["cluster"]}
    return experiments.ab_tests(table, metrics=metrics, **roles, **options)


def _ab_curve(table, c, **options):
    roles = {"by": c["segment"], "arm": c["arm"], "cluster": c["cluster"]}
    return experiments.ab_curve(table, metric=c["outcome"], **roles, **options)


def _srm_test(table, c, **options):
    return experiments.srm_test(table, arm=c["arm"], **options)


def _off_policy_value(table, c, **options):
    return causal.off_policy_value(table, **_policy_roles(c), **options)


def _off_policy_lift(table, c, **options):
    return causal.off_policy_lift(table, **_policy_roles(c), **options)


def _policy_roles(c):
    return {role: c[role] for role in ("reward", "propensity", "target", "cluster")}


def _logged_policy_value(table, c, **options):
    target_log = TARGET_LOG.rename(columns=c)
    roles = {role: c[role] for role in ("action", "reward", "propensity", "cluster")}
    given = {"target_log": target_log, **roles, "by": [c["position"]], **options}
    return causal.logged_policy_value(table, **given)


def _slate_value(table, c, **options):
    roles = {role: c[role] for role in ("slate", "position", "reward", "propensity", "target")}
    return causal.slate_value(table, **roles, **options)


def _group_moments(table, c, **options):
    columns = [c["outcome"], c["covariate"]]
    given = {"columns": columns, "by": [c["arm"]], "unit": c["cluster"], **options}
    return causal.group_moments(table, **given)


def _group_moments_weighted(table, c, **options):
    given = {"columns": [c["outcome"]], "by": [c["arm"]], "weight": c["weight"], **options}
    return causal.group_moments(table, **given)


def _unit_cube(table, c, **options):
    given = {"columns": [c["outcome"]], "by": [c["arm"], c["day"]], "unit": c["cluster"]}
    return causal.unit_cube(table, **{**given, **options})


def _mde(table, c, **options):
    given = {"outcome": c["outcome"], "covariates": [c["covariate"]], "cluster": c["cluster"]}
    return experiments.mde(table, **{**given, **options})


def _switchback_power(table, c, **options):
    given = {"outcome": c["outcome"], "time": "time", "unit": c["unit"], "effects": [0.0, 3.0]}
    given |= {"slice_minutes": 360, "burn_in_minutes": 60, "n_replications": 20, "n_draws": 19}
    return experiments.switchback_power(table, **{**given, **options})


def _mde_timeline(table, c, **options):
    given = {"outcome": c["outcome"], "time": "time", "unit": c["unit"], "days": [5, 20]}
    return experiments.mde_timeline(table, **{**given, **options})


def _rotation(function, *beside, **fixed):
    """A read-out of a rotation with its own coins in each unit."""

    def call(table, c, **options):
        roles = {"outcome": c["outcome"], "treatment": c["arm"], "time": c["time"]}
        roles |= {"unit": c["unit"], "points": POINTS} | {role: c[role] for role in beside}
        covariates = {"covariates": [c["covariate"]]} if "covariate" in c else {}
        given = {**roles, **covariates, **fixed, **options}
        return getattr(experiments, function)(table, **given)

    return call


def _dual_sided_effect(table, c, **options):
    roles = {role: c[role] for role in ("outcome", "viewer", "author", "viewer_arm", "author_arm")}
    given = {**roles, "covariates": [c["covariate"]], **options}
    return experiments.dual_sided_effect(table, **given)


def _share_response(table, c, **options):
    roles = {role: c[role] for role in ("outcome", "arm", "share", "cell")}
    return experiments.share_response(table, **roles, **options)


def _entanglement_index(table, c, **options):
    roles = {role: c[role] for role in ("watch", "room_arm")}
    return experiments.entanglement_index(
        table, partner_arm=c.get("partner_arm", "partner_arm"), **roles, **options
    )


def _staggered(function, **fixed):
    """An estimator of staggered adoption; times and cohorts keep their names."""

    def call(table, c, **options):
        roles = {role: c[role] for role in ("outcome", "unit", "cluster") if role in c}
        covariates = {"covariates": [c["covariate"]]} if "covariate" in c else {}
        said = {"time": "time", "cohort": "cohort", "never": 0}
        return getattr(causal, function)(table, **roles, **covariates, **said, **fixed, **options)

    return call


def _launch(function, **fixed):
    """An estimator of a launch at one time; times keep their name."""
    others = ("outcome", "unit", "treatment", "stratum", "cluster", "weight")

    def call(table, c, **options):
        roles = {role: c[role] for role in others if role in c}
        covariates = {"covariates": [c["covariate"]]} if "covariate" in c else {}
        said = {"time": "time", "start": 3}
        return getattr(causal, function)(table, **roles, **covariates, **said, **fixed, **options)

    return call


def _synthetic_control(table, c, **options):
    roles = {role: c[role] for role in ("outcome", "unit", "treatment")}
    return causal.synthetic_control(table, time="time", start=14, **roles, **options)


def _triple_diff(table, c, **options):
    roles = {role: c[role] for role in ("outcome", "unit", "treatment")}
    roles |= {"time": "time", "start": 3, "eligible": c["stratum"]}
    return causal.triple_diff(table, **{**roles, **options})


def _fixed_effects(table, c, **options):
    roles = {"outcome": c["outcome"], "treatment": c["covariate"], "absorb": [c["unit"]]}
    return causal.fixed_effects(table, **{**roles, "cluster": c["cluster"], **options})


def _fixed_effects_weighted(table, c, **options):
    roles = {"outcome": c["outcome"], "treatment": c["arm"], "covariates": [c["covariate"]]}
    roles |= {"absorb": [c["segment"], c["day"]], "weight": c["weight"], "cluster": c["cluster"]}
    return causal.fixed_effects(table, **{**roles, **options})


ENTRIES = (
    Entry("ab_test", _ab_test, experiment_log, ("outcome", "covariate"), ("arm", "cluster"),
          drops_missing=True),
    Entry("ab_test by unit", _ab_test_rows, experiment_log, ("outcome",), ("arm", "unit"),
          drops_missing=True),
    Entry("ab_test weighted", _ab_test_weighted, experiment_log, ("outcome",), ("arm",),
          weights=("weight",), drops_missing=True),
    Entry("ab_tests", _ab_tests, experiment_log, ("outcome", "covariate", "clicks", "views"),
          ("arm", "cluster"), drops_missing=True),
    Entry("ab_curve", _ab_curve, experiment_log, ("outcome",), ("arm", "cluster", "segment"),
          drops_missing=True),
    Entry("srm_test", _srm_test, experiment_log, (), ("arm",)),
    Entry("off_policy_value", _off_policy_value, policy_log, ("reward",), ("cluster",),
          ("propensity", "target")),
    Entry("off_policy_lift", _off_policy_lift, policy_log, ("reward",), ("cluster",),
          ("propensity", "target")),
    Entry("logged_policy_value", _logged_policy_value, policy_log, ("reward",),
          ("action", "position", "cluster"), ("propensity",)),
    Entry("slate_value", _slate_value, slate_log, ("reward",), ("slate", "position"),
          ("propensity", "target")),
    Entry("group_moments", _group_moments, experiment_log, ("outcome", "covariate"),
          ("arm", "cluster")),
    Entry("group_moments weighted", _group_moments_weighted, experiment_log, ("outcome",),
          ("arm",), weights=("weight",)),
    Entry("switchback_effect", _rotation("switchback_effect", burn_in=1, n_draws=99), rotation_log,
          ("outcome", "arm", "time", "covariate"), ("unit",)),
    Entry("switchback_effect weighted", _rotation("switchback_effect", "weight", carryover=2,
          inference="conservative"), rotation_log, ("outcome", "arm", "time"), ("unit",),
          weights=("weight",)),
    Entry("burn_in_curve", _rotation("burn_in_curve", burn_ins=[0, 1]), rotation_log,
          ("outcome", "arm", "time"), ("unit",)),
    Entry("switch_event_study", _rotation("switch_event_study"), rotation_log,
          ("outcome", "arm", "time"), ("unit",)),
    Entry("carryover_bound", _rotation("carryover_bound", orders=[0, 1, 4], n_draws=19),
          rotation_log, ("outcome", "arm", "time"), ("unit",)),
    Entry("dual_sided_effect", _dual_sided_effect, pair_log,
          ("outcome", "covariate", "viewer_arm", "author_arm"), ("viewer", "author")),
    Entry("share_response", _share_response, saturation_log, ("outcome", "arm", "share"),
          ("cell",)),
    Entry("entanglement_index", _entanglement_index, battle_log, ("watch", "room_arm")),
    Entry("diff_in_diff", _launch("diff_in_diff"), launch_log, ("outcome", "treatment"),
          ("unit", "cluster")),
    Entry("diff_in_diff covariates", _launch("diff_in_diff"), launch_log,
          ("outcome", "treatment", "covariate"), ("unit",), weights=("weight",)),
    Entry("diff_in_diff without units", _launch("diff_in_diff"), launch_log,
          ("outcome", "treatment"), ("cluster",)),
    Entry("event_study", _launch("event_study"), launch_log, ("outcome", "treatment"), ("unit",)),
    Entry("event_study covariates", _launch("event_study"), launch_log,
          ("outcome", "treatment", "covariate"), ("unit", "cluster")),
    Entry("stratified_did", _launch("stratified_did"), launch_log, ("outcome", "treatment"),
          ("unit", "stratum")),
    Entry("triple_diff", _triple_diff, launch_log, ("outcome", "treatment", "stratum"),
          ("unit",)),
    Entry("panel_design", _launch("panel_design"), launch_log, ("outcome", "treatment"),
          ("unit", "stratum")),
    Entry("panel_moments", _launch("panel_moments"), launch_log, ("outcome", "treatment"),
          ("unit",)),
    Entry("fixed_effects", _fixed_effects, staggered_log, ("outcome", "covariate"),
          ("unit", "cluster")),
    Entry("fixed_effects weighted", _fixed_effects_weighted, experiment_log,
          ("outcome", "arm", "covariate"), ("segment", "day", "cluster"), weights=("weight",)),
    Entry("few_cluster_test", _staggered("few_cluster_test", n_draws=199), staggered_log,
          ("outcome",), ("unit", "cluster")),
    Entry("sun_abraham", _staggered("sun_abraham"), staggered_log, ("outcome",),
          ("unit", "cluster")),
    Entry("sun_abraham covariates", _staggered("sun_abraham"), staggered_log,
          ("outcome", "covariate"), ("unit",)),
    Entry("imputation_effects", _staggered("imputation_effects", n_pretrend=1), staggered_log,
          ("outcome",), ("unit",)),
    Entry("imputation_effects covariates", _staggered("imputation_effects"), staggered_log,
          ("outcome", "covariate"), ("unit", "cluster")),
    Entry("group_time_effects", _staggered("group_time_effects"), staggered_log, ("outcome",),
          ("unit", "cluster")),
    Entry("group_time_effects covariates", _staggered("group_time_effects", control="not_yet"),
          staggered_log, ("outcome", "covariate"), ("unit", "cluster")),
    Entry("group_time_effects of rows", _staggered("group_time_effects"), staggered_log,
          ("outcome", "covariate"), ("cluster",)),
    Entry("bacon_decomposition", _staggered("bacon_decomposition"), staggered_log, ("outcome",),
          ("unit",)),
    Entry("twfe_weights", _staggered("twfe_weights"), staggered_log, (), ("unit",)),
    Entry("synthetic_control", _synthetic_control, city_log, ("outcome", "treatment"), ("unit",)),
    Entry("synthetic_diff_in_diff", _staggered("synthetic_diff_in_diff", variance="jackknife"),
          staggered_log, ("outcome", "covariate"), ("unit",)),
    Entry("factor_effects", _staggered("factor_effects", variance="jackknife", penalty=0.3),
          staggered_log, ("outcome",), ("unit",)),
    Entry("unit_cube", _unit_cube, experiment_log, ("outcome",), ("arm", "day", "cluster")),
    Entry("mde", _mde, experiment_log, ("outcome", "covariate"), ("cluster",)),
    Entry("switchback_power", _switchback_power, pilot_log, ("outcome",), ("unit",)),
    Entry("mde_timeline", _mde_timeline, pilot_log, ("outcome",), ("unit",)),
)  # fmt: skip


def entry(name: str) -> Entry:
    """The entry of that name."""
    return next(e for e in ENTRIES if e.name == name)


# --- answers, as plain numbers --------------------------------------------------------------------


def numbers(result: Any) -> dict[str, np.ndarray]:
    """Everything numeric that a result says, by name, in an order that labels do not change."""
    for kind, read in _READERS.items():
        if type(result).__name__ == kind:
            return read(result)
    return _table_numbers(result.to_pyarrow())  # an Ibis table


def _effect_numbers(effect: Any) -> dict[str, np.ndarray]:
    values = effect.to_dict()
    return {k: np.asarray(values[k], float) for k in _EFFECT_NUMBERS if values[k] is not None}


def _curve_numbers(curve: Any) -> dict[str, np.ndarray]:
    order = np.argsort(curve.estimate)
    return {"estimate": curve.estimate[order], "cov": curve.cov[np.ix_(order, order)]}


def _policy_numbers(value: Any) -> dict[str, np.ndarray]:
    frame = value.diagnostics.to_frame().select_dtypes("number")
    return _effect_numbers(value.effect) | {"diagnostics": frame.to_numpy(float)}


def _moments_numbers(moments: Any) -> dict[str, np.ndarray]:
    order = np.lexsort(moments.mean.T)
    weight = np.zeros(len(order)) if moments.weight is None else moments.weight
    arrays = {"n": moments.n, "mean": moments.mean, "cross": moments.cross, "weight": weight}
    return {name: array[order] for name, array in arrays.items()}


def _card_numbers(card: Any) -> dict[str, np.ndarray]:
    rows = [_effect_numbers(row.effect) for row in card.rows]
    named = {f"{i} {name}": value for i, row in enumerate(rows) for name, value in row.items()}
    return named | {"p_adjusted": np.array([row.p_adjusted for row in card.rows], float)}


def _dual_numbers(found: Any) -> dict[str, np.ndarray]:
    cells = found.cells.to_numpy(float)
    return _effect_numbers(found.total) | {"cov": found.covariance, "cells": cells}


def _response_numbers(found: Any) -> dict[str, np.ndarray]:
    return _effect_numbers(found.total) | {"cov": found.direct.cov, "curve": found.direct.estimate}


def _table_numbers(table: pa.Table) -> dict[str, np.ndarray]:
    """Sums and counts of the cube behind its three labels, in the order of their values."""
    columns = [column.to_numpy() for column in table.columns[3:]]
    order = np.lexsort(columns)
    return {str(i): column[order] for i, column in enumerate(columns)}


def _bound_numbers(bound: Any) -> dict[str, np.ndarray]:
    """What no draw decides: coins, so draws, follow the order of regions."""
    differences = bound.table["difference"].to_numpy(float)
    return {"estimate": bound.estimates.estimate, "difference": differences}


def _cells_numbers(curve: Any) -> dict[str, np.ndarray]:
    """Cells in the order of their means: the coins, so the power, follow the order of regions."""
    cells = curve.cells.sort_values(["mean", "slice"])
    return {name: cells[name].to_numpy(float) for name in ("n", "mean")}


_READERS: dict[str, Callable[[Any], dict[str, np.ndarray]]] = {
    "Effect": _effect_numbers,
    "EffectCurve": _curve_numbers,
    "PolicyValue": _policy_numbers,
    "Moments": _moments_numbers,
    "Scorecard": _card_numbers,
    "Power": lambda power: {k: np.array(v) for k, v in power.to_frame().items()},
    "PowerCurve": _cells_numbers,
    "DataFrame": lambda frame: {name: frame[name].to_numpy(float) for name in frame},
    "SwitchbackEffect": lambda found: _effect_numbers(found.effect),
    "CarryoverBound": _bound_numbers,
    "ClusterTest": lambda found: _effect_numbers(found.effect),  # draws follow the labels' order
    "DualSidedEffect": _dual_numbers,
    "EventStudy": lambda found: _effect_numbers(found.effect) | {"curve": found.curve.cov},
    "GroupTimeEffects": lambda found: (
        _effect_numbers(found.effect) | {"joint": found.joint_covariance}
    ),
    "StratifiedDid": lambda found: _effect_numbers(found.effect) | _curve_numbers(found.curve),
    "PanelMoments": lambda m: {"n": m.n, "mean": m.mean, "cross": m.cross},
    "PanelDesign": lambda design: {
        "cohorts": design.cohorts["n_units"].to_numpy(float),
        "means": design.balance_by_cohort["mean"].to_numpy(float),
    },
    "BaconDecomposition": lambda found: (
        _effect_numbers(found.effect)
        | {"parts": found.comparisons[["estimate", "weight"]].to_numpy(float)}
    ),
    "TwfeWeights": lambda found: {"weight": found.cells["weight"].to_numpy(float)},
    "ShareResponse": _response_numbers,
    "SyntheticControl": lambda found: _effect_numbers(found.effect) | {"curve": found.gap.cov},
    "SyntheticDiffInDiff": lambda found: _effect_numbers(found.effect) | {"curve": found.curve.cov},
    "FactorEffects": lambda found: _effect_numbers(found.effect) | {"curve": found.curve.cov},
    "float": lambda number: {"estimate": np.array(number)},
    "SrmCheck": lambda check: {"p": np.array(check.p_value), "x2": np.array(check.statistic)},
}
_EFFECT_NUMBERS = (
    "estimate", "std_error", "n_obs", "n_clusters", "df", "baseline", "baseline_variance",
    "baseline_cov",
)  # fmt: skip


def assert_same(got: Any, wanted: Any, rtol: float) -> None:
    """Both results say the same numbers, to `rtol` of each (and of the standard error near 0)."""
    left, right = numbers(got), numbers(wanted)
    assert left.keys() == right.keys()
    for name, value in right.items():
        near_zero = rtol * float(np.abs(right.get("std_error", np.abs(value)).max(initial=0)))
        np.testing.assert_allclose(left[name], value, rtol=rtol, atol=near_zero, err_msg=name)


# --- intakes --------------------------------------------------------------------------------------


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def _relation(frame: pd.DataFrame) -> Any:
    return duckdb.connect().from_arrow(_arrow(frame))


def _parquet(frame: pd.DataFrame, folder: Any, parts: int) -> list[Any]:
    cuts = np.linspace(0, len(frame), parts + 1).astype(int)
    files = [folder / f"part-{i}.parquet" for i in range(parts)]
    for file, start, stop in zip(files, cuts[:-1], cuts[1:], strict=True):
        frame.iloc[start:stop].to_parquet(file)
    return files


def _ibis(frame: pd.DataFrame, folder: Any) -> Any:
    return ibis.duckdb.connect().read_parquet(str(_parquet(frame, folder, 1)[0]))


INTAKES: dict[str, Callable[..., Any]] = {
    "pandas": lambda frame, _: frame,
    "polars": lambda frame, _: pl.from_arrow(_arrow(frame)),
    "polars lazy": lambda frame, _: pl.from_arrow(_arrow(frame)).lazy(),
    "pyarrow": lambda frame, _: _arrow(frame),
    "duckdb relation": lambda frame, _: _relation(frame),
    "ibis table": _ibis,
    "parquet file": lambda frame, folder: str(_parquet(frame, folder, 1)[0]),
    "folder": lambda frame, folder: _parquet(frame, folder, 3)[0].parent,
    "glob": lambda frame, folder: str(_parquet(frame, folder, 3)[0].parent / "*.parquet"),
    "list of paths": lambda frame, folder: _parquet(frame, folder, 3),
}


HOSTILE_NAMES = (
    'say "hi"', "it's", "a;b -- c", "[brackets]", "line\nbreak", "select", "视频 时长", "x" * 300,
    "__import__('os').system('exit 3')", "y + x2", "<script>alert(1)</script>", "C(a):b",
    "back`tick", " ", "%s {x}", "\\", "n", "x0",
)  # fmt: skip
