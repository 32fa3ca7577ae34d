"""Predictors of a synthetic control, what is refused, and numbers of other implementations."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simplex_problems import by_slsqp
from synthetic_panels import ROLES, START, as_table, control, factor_outcomes

from causal import EstimationWarning, Predictor, synthetic_control

STORED = json.loads((Path(__file__).parents[1] / "reference" / "synthetic.json").read_text())
ROWS = pd.DataFrame(STORED["rows"])
REFERENCE = {"outcome": "y", "unit": "city", "time": "week", "treated": 0, "start": STORED["start"]}
LAGS = [Predictor("x0"), Predictor("x1"), *(Predictor("y", t, t) for t in (3, 6, 9, 12, 15, 18))]

# SLSQP in pysyncon stops at its default tolerance without a gradient
PYSYNCON_WEIGHTS = 1e-3


POOR = pytest.mark.filterwarnings("ignore::causal.EstimationWarning")  # fits are not the question


def reference_weights(result):
    return np.array([result.donor_weights.get(i, 0.0) for i in range(1, 13)])


# --- other implementations ------------------------------------------------------------------------


@pytest.mark.reference
@POOR
def test_synthetic_control_equals_diff_diff():
    found, stored = synthetic_control(ROWS, **REFERENCE), STORED["outcomes"]
    assert found.estimate == pytest.approx(stored["estimate"], abs=1e-8)
    assert found.pre_rmspe == pytest.approx(stored["pre_rmspe"], abs=1e-8)
    assert found.p_value == pytest.approx(stored["p_value"])
    for city, weight in stored["weights"].items():
        assert found.donor_weights[int(city)] == pytest.approx(weight, abs=1e-6)


@pytest.mark.reference
@POOR
def test_synthetic_control_with_equal_predictors_equals_diff_diff():
    found = synthetic_control(ROWS, predictors=LAGS, predictor_weights="equal", **REFERENCE)
    stored = STORED["even"]
    assert found.estimate == pytest.approx(stored["estimate"], abs=1e-6)
    assert found.p_value == pytest.approx(stored["p_value"])
    for city, weight in stored["weights"].items():
        assert found.donor_weights[int(city)] == pytest.approx(weight, abs=1e-6)


@pytest.mark.reference
@POOR
def test_synthetic_control_nested_fits_as_well_as_diff_diff():
    found = synthetic_control(ROWS, predictors=LAGS, **REFERENCE)
    stored = STORED["nested"]
    assert found.pre_rmspe <= stored["pre_rmspe"] + 1e-7
    assert found.estimate == pytest.approx(stored["estimate"], abs=1e-4)
    assert found.p_value == pytest.approx(stored["p_value"])


@pytest.mark.reference
@POOR
@pytest.mark.parametrize("penalty", STORED["penalised"])
def test_synthetic_control_penalised_equals_pysyncon(penalty):
    each = [Predictor("y", t, t) for t in range(1, STORED["start"])]
    given = {"predictors": each, "predictor_weights": "equal", "penalty": float(penalty)}
    found = synthetic_control(ROWS, **given, **REFERENCE)
    stored = STORED["penalised"][penalty]
    np.testing.assert_allclose(reference_weights(found), stored, atol=PYSYNCON_WEIGHTS)


@pytest.mark.reference
@POOR
@pytest.mark.parametrize("ridge", STORED["augmented"]["weights"])
def test_synthetic_control_augmented_equals_pysyncon(ridge):
    found = synthetic_control(ROWS, augment="ridge", ridge=float(ridge), **REFERENCE)
    stored = STORED["augmented"]["weights"][ridge]
    np.testing.assert_allclose(reference_weights(found), stored, atol=1e-6)


# --- exact ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    """A panel with two numbers by city; one of them varies and has gaps."""
    table = as_table(factor_outcomes(seed=12))
    rng = np.random.default_rng(13)
    table["size"] = rng.normal(size=11)[pd.factorize(table["city"])[0]]
    table["visits"] = table["size"] * 2 + rng.normal(size=len(table))
    table.loc[table["week"] == 3, "visits"] = np.nan
    return table


def run(table, *predictors, **options):
    return synthetic_control(
        table, treated="c00", start=START, predictors=list(predictors), **ROLES, **options
    )


THREE = (Predictor("size"), Predictor("visits", 2, 8), Predictor("gmv", 10, 14, "sum"))


@POOR
def test_synthetic_control_matches_predictors_by_least_squares(table):
    given = {"size": 0.2, "visits": 0.5, "gmv": 0.3}
    found = run(table, *THREE, predictor_weights=given)
    wide = table.pivot_table(index="city", columns="week", values="gmv")
    visits = table[table["week"].between(2, 8)].groupby("city")["visits"].mean()
    raw = np.column_stack(
        [table.groupby("city")["size"].first(), visits, wide.loc[:, 10:14].sum(axis=1)]
    )
    balance = found.balance.set_index("predictor")
    np.testing.assert_allclose(balance["treated"], raw[0], rtol=1e-12)
    np.testing.assert_allclose(balance["donors_mean"], raw[1:].mean(axis=0), rtol=1e-12)
    x = raw / raw.std(axis=0, ddof=1) * np.sqrt([0.2, 0.5, 0.3])
    other = by_slsqp(
        lambda w: ((x[0] - w @ x[1:]) ** 2).sum(),
        lambda w: -2 * x[1:] @ (x[0] - w @ x[1:]),
        10,
    )
    w = np.array([found.donor_weights.get(f"c{i:02d}", 0.0) for i in range(1, 11)])
    least = ((x[0] - other @ x[1:]) ** 2).sum()
    assert ((x[0] - w @ x[1:]) ** 2).sum() <= least + 1e-6
    assert found.predictor_weights == pytest.approx(
        dict(zip(balance.index, given.values(), strict=True))
    )


@POOR
def test_synthetic_control_nested_weights_are_no_worse_than_a_grid(table):
    two = (Predictor("size"), Predictor("visits", 2, 8))
    found = run(table, *two)
    grid = [
        run(table, *two, predictor_weights={"size": s, "visits": 1 - s}).pre_rmspe
        for s in np.linspace(0, 1, 21)
    ]
    assert found.pre_rmspe <= min(grid) + 1e-6
    low, high = found.v_spread
    assert low <= found.estimate <= high


@POOR
def test_synthetic_control_warns_where_predictor_weights_leave_the_effect_open(table):
    plain = run(table, *THREE)
    low, high = plain.v_spread
    assert high > low
    after = (table["city"] == "c00") & (table["week"] >= START)
    level = table.assign(gmv=table["gmv"] - plain.estimate * after)  # no effect is left
    with pytest.warns(EstimationWarning, match="not settled") as caught:
        found = run(level, *THREE)
    low, high = found.v_spread
    unsettled = [str(w.message) for w in caught if "not settled" in str(w.message)]
    assert len(unsettled) == 1
    assert f"from {low:.4g} to {high:.4g}" in unsettled[0]


@POOR
def test_synthetic_control_search_is_repeatable_and_ignores_units(table):
    found = run(table, *THREE)
    again = run(table.assign(size=table["size"] * 1000 + 5), *THREE)
    shuffled = run(table.sample(frac=1, random_state=1), *THREE)
    assert again.estimate == pytest.approx(found.estimate, abs=1e-6)
    assert shuffled.estimate == pytest.approx(found.estimate, abs=1e-9)
    assert sum(found.predictor_weights.values()) == pytest.approx(1)


def test_synthetic_control_every_period_as_predictor_is_the_outcome_only_fit():
    outcome = factor_outcomes(seed=12)
    plain = control(outcome)
    each = [Predictor("gmv", t, t) for t in range(1, START)]
    spread = {p.label: float(outcome[:, i].var(ddof=1)) for i, p in enumerate(each)}
    found = run(as_table(outcome), *each, predictor_weights=spread)
    assert found.estimate == pytest.approx(plain.estimate, abs=1e-6)
    assert found.std_error == pytest.approx(plain.std_error, rel=1e-5)


def test_synthetic_control_warns_of_predictors_that_are_not_matched(table):
    with pytest.warns(EstimationWarning, match="2 of 3 predictors are not matched") as caught:
        found = run(table, *THREE)
    assert len(caught) == 1
    size = table.groupby("city")["size"].first()
    row = found.balance.set_index("predictor").loc["mean of size"]
    apart = abs(row["treated"] - row["synthetic"]) / size.std()
    said = (
        f"'mean of size' is {row['treated']:.3g} for the treated and {row['synthetic']:.3g} for "
        f"the synthetic control ({apart:.2g} standard deviations)"
    )
    assert said in str(caught[0].message)
    assert f"warned: {caught[0].message}" in found.summary()
    assert "predictor weights: mean of size " in found.summary()
    matched = run(table, Predictor("gmv", 10, 14, "sum"))
    assert "warnings" not in matched.effect.details


@POOR
def test_synthetic_control_one_predictor_needs_no_search(table):
    found = run(table, Predictor("size"))
    assert found.predictor_weights == {"mean of size": 1.0}
    assert found.v_spread is None


@POOR
@pytest.mark.parametrize("how", ["mean", "last"])
def test_predictor_leaves_missing_values_out(table, how):
    found = run(table, Predictor("visits", 2, 3, how))
    first = table[(table["city"] == "c00") & (table["week"] == 2)]["visits"].iloc[0]
    assert found.balance["treated"][0] == pytest.approx(first)


# --- what is refused, and what is warned of -------------------------------------------------------


@POOR
def test_synthetic_control_drops_donors_without_a_predictor_by_name(table):
    holed = table.assign(size=table["size"].mask(table["city"].isin(["c03", "c07"])))
    with pytest.warns(EstimationWarning, match=r"2 of 10 donors lack .*mean of size.*c03, c07"):
        run(holed, *THREE)
    with pytest.raises(ValueError, match=r"treated units must have every predictor; .*size"):
        run(table.assign(size=table["size"].mask(table["city"] == "c00")), *THREE)
    with pytest.raises(ValueError, match=r"treated units .* sum of visits"):
        run(table, Predictor("visits", 2, 5, "sum"))


@pytest.mark.parametrize(
    ("predictors", "options", "part"),
    [
        ([Predictor("gmv", 10, 15)], {}, "'gmv' must end before"),
        ([Predictor("gmv", 12, 11)], {}, "must hold an observed period"),
        ([Predictor("gmv"), Predictor("gmv")], {}, "predictors must differ"),
        ([Predictor("flat")], {}, "'mean of flat' is the same for all"),
        ([Predictor("absent")], {}, r"column 'absent' \(predictors\) is not in"),
        (list(THREE), {"predictor_weights": "best"}, "predictor_weights must be one of"),
        (list(THREE), {"predictor_weights": {"size": 1.0}}, "must name every predictor"),
        (
            list(THREE),
            {"predictor_weights": {"size": -1.0, "visits": 1, "gmv": 1}},
            "numbers >= 0",
        ),
        (list(THREE), {"augment": "ridge"}, "cannot be combined"),
        (list(THREE), {"fixed_effect": True}, "^fixed_effect=True matches outcomes"),
        (list(THREE), {"inference": "conformal"}, "cannot be combined"),
        ([], {"predictor_weights": "equal"}, "need predictors"),
        ([], {"ridge": 1.0}, "augment='ridge'"),
        ([], {"augment": "ridge", "ridge": 0.0}, "ridge must be positive"),
        ([], {"augment": "lasso"}, "augment must be one of"),
        ([], {"penalty": -1.0}, "penalty"),
        ([], {"pooling": 0.5}, "pooling needs several"),
        ([], {"pooling": 2.0}, r"\[0, 1\]"),
        ([], {"inference": "bayes"}, "inference must be one of"),
        ([], {"level": 95}, "level"),
        ([], {"donors": ["c01", "c00"]}, "never treated; .*c00"),
        ([], {"donors": ["c01", "nowhere"]}, "nowhere"),
        ([], {"donors": ["c01", "c01"]}, "once"),
        ([], {"donors": ["c01"]}, "at least 2 donors"),
    ],
)
def test_synthetic_control_refuses_by_name(table, predictors, options, part):
    with pytest.raises(ValueError, match=part):
        run(table.assign(flat=3), *predictors, **options)


def test_synthetic_control_refuses_wrong_kinds(table):
    with pytest.raises(TypeError, match=r"Predictor\('gmv'\)"):
        run(table, "size")
    with pytest.raises(TypeError, match="put it in"):
        run(table, donors="c01")
    with pytest.raises(TypeError, match="column as text"):
        Predictor(3)
    with pytest.raises(ValueError, match="how must be one of"):
        Predictor("size", how="median")


def test_synthetic_control_refuses_gaps_of_the_treated_and_drops_donors_with_gaps(table):
    at = table["week"] == 5
    with pytest.raises(ValueError, match=r"'city' must have a row in every period; c00 .* lacks 5"):
        run(table[~(at & (table["city"] == "c00"))])
    with pytest.warns(EstimationWarning, match=r"1 of 10 donors lack a row .*: c04"):
        found = run(table[~(at & (table["city"] == "c04"))])
    kept = [f"c{i:02d}" for i in range(1, 11) if i != 4]
    assert found.estimate == pytest.approx(run(table, donors=kept).estimate, abs=1e-12)
    with (
        pytest.warns(EstimationWarning, match="10 of 10 donors"),
        pytest.raises(ValueError, match="at least 2 donors"),
    ):
        run(table[~(at & (table["city"] != "c00"))])


def test_synthetic_control_hints_that_a_cohort_of_0_may_mean_never(table):
    never_0 = table.assign(first=np.where(table["city"] == "c00", START, 0))
    hint = "if a 'first' such as 0 means never treated, replace it by missing"
    with (
        pytest.warns(EstimationWarning, match=f"10 units are treated from .*{hint}"),
        pytest.raises(ValueError, match=f"0 units of 'city' are; .*{hint}"),
    ):
        synthetic_control(never_0, cohort="first", **ROLES)


def test_synthetic_control_refuses_short_histories_and_two_ways(table):
    given = {"treated": "c00", **ROLES}
    with pytest.raises(ValueError, match="at least 2 periods before"):
        synthetic_control(table, start=2, **given)
    with pytest.raises(ValueError, match="cohort"):
        synthetic_control(table.assign(first=START), start=START, cohort="first", **given)
    with pytest.raises(ValueError, match="start"):
        synthetic_control(table, start=99, **given)
    with pytest.raises(ValueError, match="nobody"):
        synthetic_control(table, start=START, **{**given, "treated": "nobody"})


def test_synthetic_control_refuses_predictors_ridge_and_conformal_where_starts_differ(table):
    starts = table["city"].map({"c00": 12, "c01": 15})
    staggered = table.assign(cohort=starts)
    for options, part in (
        ({"predictors": list(THREE)}, "predictors need one start .*synthetic_diff_in_diff"),
        ({"augment": "ridge"}, "augment='ridge' needs one start .* leave it out"),
        ({"inference": "conformal"}, "one treated unit; got 2: c00, c01"),
    ):
        with pytest.raises(ValueError, match=part):
            synthetic_control(staggered, cohort="cohort", **ROLES, **options)


def test_synthetic_control_warns_of_a_poor_fit_and_of_extrapolation():
    outcome = factor_outcomes(seed=12)
    outcome[0] += 40
    with pytest.warns(EstimationWarning) as caught:
        found = control(outcome)
    texts = [str(w.message) for w in caught]
    assert any("RMSPE" in t and "25 % is asked" in t for t in texts)
    assert any("above or below all donors in 100 % of" in t for t in texts)
    assert found.outside_share == 1
    assert all(w.filename.endswith("synthetic_panels.py") for w in caught)
    assert control(outcome, fixed_effect=True).fit_quality < 0.25


@pytest.mark.parametrize(
    ("options", "start", "advice"),
    [
        ({}, START, "; try fixed_effect=True or augment='ridge', or do not use it"),
        ({"augment": "ridge"}, START, "; try fixed_effect=True, or do not use it"),
        ({"fixed_effect": True}, START, "; try augment='ridge', or do not use it"),
        ({"fixed_effect": True, "augment": "ridge"}, START, " asked); do not use it"),
        ({"predictors": [Predictor("gmv")]}, START, "; try every period in place of predictors, "),
        ({}, 12, "; try fixed_effect=True, or do not use it"),
    ],
)
def test_synthetic_control_advises_only_what_it_would_accept(table, options, start, advice):
    wave = 10 * np.where(table["week"] % 2, 1, -1)
    far = table.assign(
        gmv=table["gmv"] + np.where(table["city"] == "c00", wave, 0),
        first=table["city"].map({"c00": START, "c01": start if start != START else np.nan}),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        synthetic_control(far, cohort="first", inference=None, **ROLES, **options)
    said = [str(w.message) for w in caught if "25 % is asked" in str(w.message)]
    outside = [str(w.message) for w in caught if "no weights reach" in str(w.message)]
    assert len(said) == 1
    assert advice in said[0]
    may_shift = not options.get("fixed_effect") and "predictors" not in options
    assert all(text.endswith("fixed_effect=True") == may_shift for text in outside)


def test_synthetic_control_of_a_constant_outcome_is_zero():
    with pytest.warns(EstimationWarning, match="'gmv' is constant") as caught:
        found = control(np.full((5, 20), 7.0))
    assert len(caught) == 1
    assert (found.estimate, found.std_error, found.p_value) == (0, 0, 1)
