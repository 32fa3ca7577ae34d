"""Bad input, one suite for every public entry: what raises, what warns, what works all the same.

A complaint names the column, counts the rows and says what to do. It is the same complaint whether
the table is in memory or behind the engine.
"""

import re
import warnings

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from entries import ENTRIES, assert_same, entry, numbers, policy_log

import causal
import experiments
from causal import EstimationWarning

DO = re.compile(
    r"\b(add|cast|check|choose|clip|convert|correct|cut|did you mean|drop|fill|fix|give|it has|"
    r"is 0\.95|is not among|leave|log the|merge|must (be one of|differ)|name|needs?|pass|put|"
    r"rename|replace|required|set|sum|take|use)\b"
)


def in_engine(frame):
    """The same rows behind DuckDB: they take the engine's path whatever their number."""
    return duckdb.connect().from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


DOORS = pytest.mark.parametrize("door", [lambda f: f, in_engine], ids=["memory", "engine"])


def complaint(call, *parts):
    """The message of the one ValueError or TypeError that `call` raises; it holds all `parts`."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert type(caught.value) in (ValueError, TypeError), type(caught.value)  # no library's own
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, f"{part!r} not in {message!r}"
    assert DO.search(message), f"nothing to do in {message!r}"
    return message


def cases(*kinds):
    """(entry, role) for every entry and every role of these kinds."""
    found = [(e, role) for e in ENTRIES for kind in kinds for role in getattr(e, kind)]
    return pytest.mark.parametrize(("e", "role"), found, ids=[f"{e}-{role}" for e, role in found])


EACH = pytest.mark.parametrize("e", ENTRIES, ids=str)


def spoilt(e, role, value, rows=(3, 5, 8)):
    """The entry's table with `value` in some rows of a column."""
    table = e.table()
    kind = np.float64 if isinstance(value, float) else object
    column = table[role].astype(kind)
    column.iloc[list(rows)] = value
    return table.assign(**{role: column})


@EACH
def test_valid_table_passes_without_a_warning(e):
    values = numbers(e.run())
    assert values
    assert all(np.isfinite(v).all() for v in values.values())


# --- columns --------------------------------------------------------------------------------------


@DOORS
@cases("roles")
def test_absent_column_is_named_with_its_neighbours(e, role, door):
    table = e.table().rename(columns={role: f"{role}_s"})
    complaint(lambda: e.run(door(table)), f"'{role}'", f"'{role}_s'")


@cases("roles")
def test_doubled_column_is_named(e, role):
    table = e.table()
    doubled = pd.concat([table, table[[role]]], axis=1)
    complaint(lambda: e.run(doubled), f"'{role}'", "2")


TWO_ROLES = [
    ("ab_test", "outcome", "arm"),
    ("ab_test", "covariate", "arm"),
    ("ab_test", "outcome", "covariate"),
    ("ab_test", "cluster", "arm"),
    ("ab_test by unit", "unit", "outcome"),
    ("ab_test by unit", "unit", "arm"),
    ("ab_test weighted", "weight", "outcome"),
    ("ab_test weighted", "weight", "arm"),
    ("ab_tests", "outcome", "arm"),
    ("ab_tests", "clicks", "views"),
    ("ab_curve", "segment", "arm"),
    ("ab_curve", "outcome", "segment"),
    ("off_policy_value", "reward", "propensity"),
    ("off_policy_value", "reward", "target"),
    ("off_policy_value", "reward", "cluster"),
    ("off_policy_lift", "reward", "propensity"),
    ("logged_policy_value", "action", "position"),
    ("logged_policy_value", "reward", "propensity"),
    ("logged_policy_value", "action", "reward"),
    ("slate_value", "slate", "position"),
    ("slate_value", "reward", "propensity"),
    ("slate_value", "reward", "target"),
    ("group_moments", "outcome", "covariate"),
    ("group_moments", "outcome", "arm"),
    ("group_moments", "arm", "cluster"),
    ("group_moments weighted", "outcome", "weight"),
    ("dual_sided_effect", "outcome", "viewer"),
    ("dual_sided_effect", "viewer_arm", "author_arm"),
    ("dual_sided_effect", "covariate", "outcome"),
    ("share_response", "arm", "share"),
    ("share_response", "cell", "outcome"),
    ("entanglement_index", "watch", "room_arm"),
    ("sun_abraham", "outcome", "unit"),
    ("sun_abraham", "cluster", "outcome"),
    ("imputation_effects covariates", "covariate", "outcome"),
    ("bacon_decomposition", "outcome", "unit"),
    ("unit_cube", "outcome", "cluster"),
    ("unit_cube", "arm", "day"),
    ("switchback_effect", "outcome", "arm"),
    ("switchback_effect", "time", "outcome"),
    ("switchback_effect", "unit", "covariate"),
    ("switchback_effect weighted", "weight", "outcome"),
    ("burn_in_curve", "arm", "time"),
    ("switch_event_study", "outcome", "time"),
    ("carryover_bound", "unit", "time"),
    ("mde", "outcome", "covariate"),
    ("mde", "outcome", "cluster"),
    ("switchback_power", "outcome", "unit"),
    ("mde_timeline", "outcome", "unit"),
]


@pytest.mark.parametrize(("name", "one", "other"), TWO_ROLES)
def test_one_column_in_two_roles_is_refused(name, one, other):
    e = entry(name)
    complaint(lambda: e.run(columns={one: other}), f"'{other}'")


@EACH
def test_column_name_that_is_no_text_is_refused_or_works(e):
    for role in e.roles:
        for name in (7, ""):
            table = e.table().rename(columns={role: name})
            refused, result = None, None
            try:
                result = e.run(table, {role: name})
                numbers(result)
            except Exception as error:  # noqa: BLE001 — which kind it is, is asserted below
                refused = error
            if refused is None:
                assert_same(result, e.run(), rtol=1e-9)
            else:
                assert type(refused) in (ValueError, TypeError), repr(refused)
                assert repr(name) in str(refused)


# --- tables ---------------------------------------------------------------------------------------


@DOORS
@EACH
def test_empty_table_is_refused(e, door):
    message = complaint(lambda: e.run(door(e.table().iloc[:0])))
    assert "empty" in message or "row" in message


@EACH
@pytest.mark.parametrize(
    "value",
    [None, 3, np.zeros((2, 2)), [1, 2], [], object()],
    ids=["None", "3", "array", "numbers", "empty", "object"],
)
def test_what_is_no_table_is_refused(e, value):
    complaint(lambda: e.call(value, {role: role for role in e.roles}, **e.options), "table")


@EACH
def test_file_that_is_absent_or_torn_is_refused_by_name(e, tmp_path):
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 this is no parquet file")
    for path in (torn, tmp_path / "absent.parquet", tmp_path / "*.parq", tmp_path):
        with pytest.raises((ValueError, TypeError)) as caught:
            e.run(str(path))
        assert type(caught.value) in (ValueError, TypeError)
        assert str(path) in str(caught.value) or "torn.parquet" in str(caught.value)


# --- values ---------------------------------------------------------------------------------------


NOT_NUMBERS = {
    "text": lambda n: np.resize(["1", "two"], n),
    "datetime": lambda n: pd.date_range("2026-01-01", periods=n).to_numpy(),
    "duration": lambda n: np.arange(n).astype("timedelta64[s]"),
    "list": lambda n: pd.Series([[1, 2]] * n).to_numpy(),
    "map": lambda n: pd.Series([{"a": 1}] * n).to_numpy(),
    "complex": lambda n: np.arange(n) * 1j,
    "mixed": lambda n: np.resize(np.array([1, "a"], dtype=object), n),
}


@pytest.mark.parametrize("kind", NOT_NUMBERS)
@cases("numbers", "probabilities", "weights")
def test_column_that_holds_no_numbers_is_refused(e, role, kind):
    table = e.table()
    spoilt_table = table.assign(**{role: NOT_NUMBERS[kind](len(table))})
    complaint(lambda: e.run(spoilt_table), f"'{role}'")
    if kind not in ("complex", "mixed"):  # Arrow has no such column
        complaint(lambda: e.run(in_engine(spoilt_table)), f"'{role}'")


@DOORS
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@cases("numbers", "probabilities", "weights")
def test_infinite_values_are_counted_and_refused(e, role, value, door):
    complaint(lambda: e.run(door(spoilt(e, role, value))), f"'{role}'", "3 rows")


@DOORS
@cases("labels", "probabilities", "weights")
def test_missing_labels_probabilities_and_weights_are_counted_and_refused(e, role, door):
    complaint(lambda: e.run(door(spoilt(e, role, np.nan))), f"'{role}'", "3 rows", "missing")


@DOORS
@cases("numbers")
def test_missing_outcomes_are_dropped_with_their_count_or_refused(e, role, door):
    table = door(spoilt(e, role, np.nan))
    if not e.drops_missing:
        complaint(lambda: e.run(table), f"'{role}'", "3 rows", "missing")
        return
    with pytest.warns(EstimationWarning) as caught:
        e.run(table)
    dropped = [str(w.message) for w in caught if "missing" in str(w.message)]
    assert len(dropped) == 1
    assert "3" in dropped[0]
    assert f"'{role}'" in dropped[0]
    complaint(lambda: e.run(table, missing="raise"), f"'{role}'", "3 rows", "missing")


OUTSIDE = {"propensity": (0.0, -0.1, 1.3), "target": (-0.1, 1.2)}


@DOORS
@cases("probabilities")
def test_probabilities_outside_their_range_are_counted_and_refused(e, role, door):
    for value in OUTSIDE[role]:
        table = door(spoilt(e, role, value))
        complaint(lambda table=table: e.run(table), f"'{role}'", "3 rows", value)


@DOORS
@cases("weights")
def test_negative_or_all_zero_weights_are_refused(e, role, door):
    complaint(lambda: e.run(door(spoilt(e, role, -1.0))), f"'{role}'", "3 rows")
    complaint(lambda: e.run(door(e.table().assign(**{role: 0}))), role, "0")


@EACH
def test_only_the_first_five_offenders_are_shown(e):
    role = (*e.numbers, *e.labels)[0]
    value = np.inf if e.numbers else np.nan
    message = complaint(lambda: e.run(spoilt(e, role, value, rows=range(10, 30))), "20 rows")
    assert "10, 11, 12, 13, 14" in message
    assert "15" not in message


# --- arms, clusters and units ---------------------------------------------------------------------


BY_ARM = [e for e in ENTRIES if e.name.startswith("ab_")]
EACH_AB = pytest.mark.parametrize("e", BY_ARM, ids=str)


@DOORS
@EACH_AB
def test_arms_that_cannot_be_compared_are_refused(e, door):
    table = e.table()

    def with_arms(arms, **options):
        return lambda: e.run(door(table.assign(arm=arms)), **options)

    n = len(table)
    text = np.where(table["arm"] == 1, "B", "A")
    complaint(with_arms(np.zeros(n, int)), "'arm'", "[0]")
    complaint(with_arms(np.full(n, "A"), control="A"), "'arm'", "'A'")
    complaint(with_arms(np.arange(n) % 40), "'arm'", "control")  # a dose
    complaint(with_arms(np.linspace(0, 1, n)), "'arm'")
    complaint(with_arms(text), "'arm'", "control")
    complaint(with_arms(text, control="C"), "'C'", "'A'", "'B'")
    complaint(with_arms(np.resize(["A", "B", "C"], n)), "'arm'", "control")
    complaint(with_arms(np.where(np.arange(n) == 0, 0, 1)), "arm", "at least 2")


@pytest.mark.parametrize("name", ["ab_test", "ab_test by unit", "ab_test weighted"])
def test_more_than_two_arms_need_both_names(name):
    e = entry(name)
    arms = np.array(["A", "B", "C"])[e.table()["cluster"] % 3]
    table = e.table().assign(arm=arms)
    complaint(lambda: e.run(table, control="A"), "'arm'", "treatment")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimationWarning)  # fewer than 30 clusters an arm
        both = e.run(table, control="A", treatment="C")
        two = e.run(table[arms != "B"], control="A")
    assert_same(both, two, rtol=1e-9)


def test_covariate_that_equals_the_arm_is_refused():
    e = entry("ab_test")
    table = e.table()
    for copy in (table["arm"], 5 - 2 * table["arm"]):
        complaint(lambda copy=copy: e.run(table.assign(covariate=copy)), "'covariate'", "arm")


@pytest.mark.parametrize("adjustment", ["lin", "cuped"])
def test_more_covariates_than_rows_are_refused(adjustment):
    rng = np.random.default_rng(0)
    names = [f"x{j}" for j in range(20)]
    noise = pd.DataFrame(rng.normal(size=(12, 20)), columns=names)
    table = noise.assign(arm=np.arange(12) % 2, y=rng.normal(size=12))
    given = {"metric": experiments.Mean("y", covariates=names), "arm": "arm"}
    complaint(lambda: experiments.ab_test(table, adjustment=adjustment, **given), "covariates")


CLUSTERED = pytest.mark.parametrize("name", ["ab_test", "ab_tests", "ab_curve"])


@CLUSTERED
def test_too_few_clusters_are_refused(name):
    e = entry(name)
    for cluster in (0, e.table()["arm"]):
        table = e.table().assign(cluster=cluster)
        complaint(lambda table=table: e.run(table), "cluster")


@pytest.mark.parametrize("name", ["off_policy_value", "off_policy_lift", "logged_policy_value"])
def test_a_single_cluster_of_a_log_is_refused(name):
    e = entry(name)
    complaint(lambda: e.run(e.table().assign(cluster=1)), "cluster")


@DOORS
def test_repeated_units_are_counted_and_refused(door):
    e = entry("ab_test by unit")
    table = e.table()
    within = table["unit"].where(table.index != 2, table["unit"].iloc[0])  # rows of one arm
    across = table["unit"].where(table.index != 3, table["unit"].iloc[0])  # rows of both
    assert table["arm"].iloc[2] == table["arm"].iloc[0] != table["arm"].iloc[3]
    complaint(lambda: e.run(door(table.assign(unit=within))), "'unit'", "1", "1000")
    complaint(lambda: e.run(door(table.assign(unit=across))), "'unit'", "1", "1000")


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, -0.1, 95, np.nan])
def test_level_outside_zero_one_is_refused(level):
    complaint(lambda: entry("ab_tests").run(level=level), "level", "(0, 1)")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("ab_test", "adjustment"),
        ("ab_test", "covariance"),
        ("ab_test", "missing"),
        ("ab_tests", "adjust"),
        ("off_policy_value", "method"),
        ("off_policy_lift", "method"),
        ("logged_policy_value", "method"),
        ("slate_value", "method"),
        ("switchback_effect", "method"),
        ("switchback_effect", "inference"),
        ("switchback_effect", "adjust"),
        ("burn_in_curve", "adjust"),
        ("dual_sided_effect", "variance"),
        ("share_response", "degree"),
    ],
)
def test_unknown_option_is_refused_with_what_is_allowed(name, option):
    complaint(lambda: entry(name).run(**{option: "nonsense"}), option, "'nonsense'")


def test_target_policy_must_be_probabilities_over_the_actions():
    policy = np.full(4, 0.25)

    def call(target_policy, **options):
        roles = {"reward": "reward", "propensity": "propensity", "action": "action"}
        given = {"actions": [0, 1, 2, 3], "method": "snips", **roles, **options}
        return lambda: causal.off_policy_value(policy_log(), target_policy=target_policy, **given)

    assert np.isfinite(call(policy)().estimate)
    complaint(call(policy * 1.001), "target_policy", "sum")
    off = np.tile(policy, (800, 1))
    off[[3, 5, 8], 0] += 0.01
    complaint(call(off), "target_policy", "3 rows", "sum")
    complaint(call(np.array([0.5, 0.75, -0.25, 0.0])), "target_policy")
    complaint(call(np.array([0.5, 0.5])), "target_policy")
    complaint(call(np.tile(policy, (7, 1))), "target_policy", "800")
    complaint(call(policy, target="target"), "target", "target_policy")
    complaint(call(None), "target", "target_policy")
    complaint(call(policy, actions=[0, 1, 2]), "action")
    complaint(call(policy, actions=[0, 1, 2, 2]), "actions")


# --- warnings -------------------------------------------------------------------------------------


def warned(call, *parts):
    """The one EstimationWarning of `call` that holds all `parts`; others may stand beside it."""
    with pytest.warns(EstimationWarning) as caught:
        result = call()
    texts = [str(w.message) for w in caught if issubclass(w.category, EstimationWarning)]
    fitting = [t for t in texts if all(re.search(part, t) for part in parts)]
    assert len(fitting) == 1, texts
    assert len(set(texts)) == len(texts)
    return result


@pytest.mark.parametrize("name", ["ab_test", "ab_tests"])
def test_missing_outcomes_that_differ_by_arm_are_warned_of(name):
    e = entry(name)
    rows = np.flatnonzero(e.table()["arm"] == 1)[:30]
    table = spoilt(e, "outcome", np.nan, rows)
    warned(lambda: e.run(table), "30", "25", r"\bp\b")  # 30 rows, 25 % of one arm, a test
    complaint(lambda: e.run(table, missing="raise"), "'outcome'", "30 rows")


@pytest.mark.parametrize("name", ["ab_test", "ab_test by unit", "ab_curve"])
def test_constant_outcome_is_warned_of(name):
    e = entry(name)
    result = warned(lambda: e.run(e.table().assign(outcome=7)), "outcome", "constant")
    assert np.all(np.asarray(numbers(result)["estimate"]) == 0)


def test_constant_or_collinear_covariates_are_left_out_by_name():
    e = entry("ab_test")
    table = e.table().assign(flat=3, twice=lambda t: 2 * t["covariate"] + 1)
    plain = e.run()
    for extra in ("flat", "twice"):
        metric = experiments.Mean("outcome", covariates=["covariate", extra])
        given = {"metric": metric, "arm": "arm", "cluster": "cluster"}
        result = warned(lambda given=given: experiments.ab_test(table, **given), extra)
        assert_same(result, plain, rtol=1e-9)


@CLUSTERED
def test_fewer_than_thirty_clusters_an_arm_are_warned_of(name):
    e = entry(name)
    table = e.table()
    few = table[table["cluster"] < 50 + 40]
    warned(lambda: e.run(few), "20", "cluster")


def test_a_dominant_cluster_is_warned_of():
    e = entry("ab_test")
    table = e.table()
    table.loc[table["cluster"] == 50, "outcome"] += 1000
    warned(lambda: e.run(table), "cluster", r"\d+(\.\d+)? ?%")


def test_control_level_near_zero_is_warned_of():
    e = entry("ab_test by unit")
    table = e.table()
    centred = table["outcome"] - table.loc[table["arm"] == 0, "outcome"].mean()
    warned(lambda: e.run(table.assign(outcome=centred)), "control", "0")


def test_sample_ratio_mismatch_is_warned_of():
    table = entry("ab_tests").table()
    table = table[(table["arm"] == 1) | (table.index % 3 == 0)]
    card = warned(
        lambda: experiments.ab_tests(table, metrics={"watch": "outcome"}, arm="arm"),
        "(?i)sample.ratio|srm",
        "40",
    )
    assert not card.srm.ok
    assert card.srm.p_value < 0.0005


POLICY_ENTRIES = ["off_policy_value", "off_policy_lift", "slate_value"]


@pytest.mark.parametrize("name", POLICY_ENTRIES)
def test_small_effective_samples_are_warned_of_once_with_all_figures(name):
    e = entry(name)
    table = e.table()
    small = table.iloc[:90]
    warned(lambda: e.run(small), r"ESS|effective")
    heavy = table.assign(propensity=table["propensity"].where(table.index != 4, 1e-5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = e.run(heavy)
    texts = [str(w.message) for w in caught if w.category is EstimationWarning]
    assert len(texts) == 1
    assert str(len(table)) in texts[0].replace(",", "") or name == "slate_value"
    assert f"{value.diagnostics.ess:.3g}"[:3] in texts[0]


@pytest.mark.parametrize("name", POLICY_ENTRIES)
def test_few_weighted_rewards_are_warned_of(name):
    e = entry(name)
    reward = np.zeros(len(e.table()))
    reward[:5] = 1
    warned(lambda: e.run(e.table().assign(reward=reward)), "5", "reward")
