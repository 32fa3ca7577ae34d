"""One metric of an A/B test: exact formulas, stored numbers of others, arms, warnings."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from ab_tables import REFERENCE, log, reference_rows, users, with_gaps
from scipy import stats

from causal.effect import EstimationWarning
from causal.linear import covariance, least_squares
from experiments import Mean, Quantile, Ratio, ab_test, ab_tests

EQUAL = {"rel": 1e-10}  # other implementations, in double precision
FEW = pytest.mark.filterwarnings("ignore:.*cluster:causal.effect.EstimationWarning")


def interacted(frame, covariates, weight=None, outcome="y"):
    """Fit and design of Lin's regression: intercept, arm, centred covariates, products."""
    w = None if weight is None else frame[weight].to_numpy()
    columns = [np.ones(len(frame)), frame["arm"].to_numpy(float)]
    centred = [frame[c].to_numpy(float) - np.average(frame[c], weights=w) for c in covariates]
    columns += centred + [columns[1] * c for c in centred]
    design = np.column_stack(columns)
    return least_squares(design, frame[outcome].to_numpy(float), weights=w), design


def welch_df(v, n, covariates=0):
    """Degrees of freedom of v[0] + v[1], each estimated from n - 1 - covariates."""
    return sum(v) ** 2 / sum(x**2 / (m - 1 - covariates) for x, m in zip(v, n, strict=True))


# ---------------------------------------------------------------- exact


def test_ab_test_without_covariates_is_welchs_t_test():
    frame = users(61)
    y0, y1 = (frame.loc[frame["arm"] == a, "y"] for a in (0, 1))
    effect = ab_test(frame, metric="y", arm="arm")
    welch = stats.ttest_ind(y1, y0, equal_var=False)
    assert effect.estimate == pytest.approx(y1.mean() - y0.mean(), rel=1e-12)
    assert effect.std_error == pytest.approx(
        math.sqrt(y1.var() / len(y1) + y0.var() / len(y0)), rel=1e-12
    )
    assert effect.df == pytest.approx(welch.df, rel=1e-12)
    assert effect.p_value == pytest.approx(welch.pvalue, rel=1e-10)
    assert effect.baseline == pytest.approx(y0.mean(), rel=1e-12)
    assert effect.baseline_variance == pytest.approx(y0.var() / len(y0), rel=1e-12)
    assert effect.baseline_cov == pytest.approx(-y0.var() / len(y0), rel=1e-12)


@pytest.mark.parametrize("covariates", [["x"], ["x", "z"]])
@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2", "HC3"])
def test_ab_test_lin_is_the_interacted_regression(covariates, weight, kind):
    frame = users(80)
    effect = ab_test(
        frame, metric=Mean("y", covariates=covariates), arm="arm", weight=weight, covariance=kind
    )
    fit, design = interacted(frame, covariates, weight)
    cov = covariance(fit, design, kind=kind).matrix
    assert effect.estimate == pytest.approx(fit.coef[1], rel=1e-11)
    assert effect.std_error**2 == pytest.approx(cov[1, 1], rel=1e-11)
    assert effect.baseline == pytest.approx(fit.coef[0], rel=1e-11)
    assert effect.baseline_variance == pytest.approx(cov[0, 0], rel=1e-11)
    assert effect.baseline_cov == pytest.approx(cov[0, 1], rel=1e-11)
    assert effect.method == f"Lin, {kind}"


def test_ab_test_lin_uses_welchs_df_less_one_for_each_covariate():
    frame = users(40)
    effect = ab_test(frame, metric=Mean("y", covariates=["x", "z"]), arm="arm")
    v0 = effect.baseline_variance
    v1 = effect.std_error**2 - v0
    assert effect.df == pytest.approx(welch_df((v0, v1), (20, 20), covariates=2), rel=1e-12)


def test_ab_test_lin_reports_the_superpopulation_standard_error():
    frame = users(90)
    effect = ab_test(frame, metric=Mean("y", covariates=["x", "z"]), arm="arm")
    fit, _ = interacted(frame, ["x", "z"])
    gap = fit.coef[4:]
    extra = gap @ np.cov(frame[["x", "z"]].T) @ gap / len(frame)
    expected = math.sqrt(effect.std_error**2 + extra)
    assert effect.details["superpopulation_std_error"] == pytest.approx(expected, rel=1e-10)


def test_ab_test_superpopulation_standard_error_does_not_depend_on_the_scale_of_weights():
    frame = users(90)

    def error(factor):
        scaled = frame.assign(w=factor * frame["w"])
        effect = ab_test(scaled, metric=Mean("y", covariates=["x"]), arm="arm", weight="w")
        return effect.details["superpopulation_std_error"]

    assert error(7.0) == pytest.approx(error(1.0), rel=1e-12)
    even = ab_test(frame.assign(w=3.0), metric=Mean("y", covariates=["x"]), arm="arm", weight="w")
    plain = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")
    for key in ("superpopulation_std_error", "n_control"):
        assert even.details[key] == pytest.approx(plain.details[key], rel=1e-12)


def test_ab_test_cuped_subtracts_one_pooled_theta():
    frame = users(70)
    effect = ab_test(frame, metric=Mean("y", covariates=["x", "z"]), arm="arm", adjustment="cuped")
    cov = np.cov(frame[["x", "z", "y"]].T)
    theta = np.linalg.solve(cov[:2, :2], cov[:2, 2])
    left = frame["y"] - (frame[["x", "z"]] - frame[["x", "z"]].mean()).to_numpy() @ theta
    a, b = left[frame["arm"] == 0], left[frame["arm"] == 1]
    assert list(effect.details["theta"].values()) == pytest.approx(theta.tolist(), rel=1e-11)
    assert list(effect.details["theta"]) == ["x", "z"]
    assert effect.estimate == pytest.approx(b.mean() - a.mean(), rel=1e-11)
    assert effect.std_error**2 == pytest.approx(a.var() / len(a) + b.var() / len(b), rel=1e-11)
    assert effect.df == pytest.approx(stats.ttest_ind(b, a, equal_var=False).df, rel=1e-10)
    assert effect.method == "CUPED, HC2"


def linearised(frame, numerator, denominator):
    """R_a + (y - R_a d) / dbar_a within each arm: its mean is the arm's ratio."""
    value = np.zeros(len(frame))
    for a in (0, 1):
        mine = (frame["arm"] == a).to_numpy()
        y, d = frame.loc[mine, numerator], frame.loc[mine, denominator]
        r = y.sum() / d.sum()
        value[mine] = r + (y - r * d) / d.mean()
    return frame.assign(linear=value)


def by_cluster(frame, cluster, **sums):
    """One row a cluster and arm, with sums and the mean of `before`."""
    return (
        frame.groupby([cluster, "arm"])
        .agg(clicks=("clicks", "sum"), views=("views", "sum"), before=("before", "mean"), **sums)
        .reset_index()
    )


def test_ab_test_ratio_over_clusters_is_the_delta_method():
    frame = log(crossing=False)
    table = by_cluster(frame, "viewer_id")
    ratio, variance = [], []
    for a in (0, 1):
        y, d = (table.loc[table["arm"] == a, c] for c in ("clicks", "views"))
        r = y.sum() / d.sum()
        s = np.cov(y, d)
        ratio.append(r)
        variance.append((s[0, 0] - 2 * r * s[0, 1] + r**2 * s[1, 1]) / (len(y) * d.mean() ** 2))
    effect = ab_test(frame, metric=("clicks", "views"), arm="arm", cluster="viewer_id")
    assert effect.estimate == pytest.approx(ratio[1] - ratio[0], rel=1e-12)
    assert effect.std_error**2 == pytest.approx(sum(variance), rel=1e-11)
    assert effect.baseline == pytest.approx(ratio[0], rel=1e-12)
    assert effect.n_obs == effect.n_clusters == len(table)
    assert effect.details["counted"] == "viewers"


def test_ab_test_ratio_with_covariates_is_lin_on_linearised_values():
    frame = log()
    table = linearised(by_cluster(frame, "viewer_id"), "clicks", "views")
    metric = Ratio("clicks", "views", covariates=["before"])
    effect = ab_test(frame, metric=metric, arm="arm", cluster="viewer_id")
    fit, design = interacted(table, ["before"], outcome="linear")
    assert effect.estimate == pytest.approx(fit.coef[1], rel=1e-10)
    cov = covariance(fit, design, kind="HC2").matrix
    assert effect.std_error**2 == pytest.approx(cov[1, 1], rel=1e-10)


def test_ab_test_covariate_ratio_is_linearised_over_both_arms():
    frame = log()
    extra = {"views0": ("views0", "sum"), "clicks0": ("clicks0", "sum")}
    table = by_cluster(frame, "viewer_id", **extra)
    # covariates are averaged over the unit's rows; their ratio keeps the sums' meaning
    table[["views0", "clicks0"]] = (
        frame.groupby(["viewer_id", "arm"])[["views0", "clicks0"]].sum().to_numpy()
    )
    r = table["clicks0"].sum() / table["views0"].sum()
    table["p"] = (table["clicks0"] - r * table["views0"]) / table["views0"].mean()
    table = linearised(table, "clicks", "views")
    metric = Ratio("clicks", "views", covariate_ratio=("clicks0", "views0"))
    effect = ab_test(frame, metric=metric, arm="arm", cluster="viewer_id")
    fit, design = interacted(table, ["p"], outcome="linear")
    assert effect.estimate == pytest.approx(fit.coef[1], rel=1e-10)
    cov = covariance(fit, design, kind="HC2").matrix
    assert effect.std_error**2 == pytest.approx(cov[1, 1], rel=1e-10)
    assert list(effect.details["covariates"]) == ["clicks0 / views0"]


def test_ab_test_per_sums_rows_to_units_first():
    frame = log()
    table = frame.groupby(["viewer_id", "arm"]).agg(
        watch_s=("watch_s", "sum"), before=("before", "mean")
    )
    metric = Mean("watch_s", per="viewer_id", covariates=["before"])
    effect = ab_test(frame, metric=metric, arm="arm")
    direct = ab_test(table.reset_index(), metric=Mean("watch_s", covariates=["before"]), arm="arm")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert effect.std_error == pytest.approx(direct.std_error, rel=1e-12)
    assert effect.df == pytest.approx(direct.df, rel=1e-12)
    assert effect.n_obs == effect.n_clusters == len(table)
    assert "viewer_id without a row is not counted" in effect.details["per"]


@FEW
@pytest.mark.parametrize("covariates", [[], ["before"]])
@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR2"])
def test_ab_test_clustered_rows_are_the_clustered_regression(covariates, kind):
    for frame in (log(), log(crossing=True)):
        effect = ab_test(
            frame,
            metric=Mean("watch_s", covariates=covariates),
            arm="arm",
            cluster="village",
            covariance=kind,
        )
        fit, design = interacted(frame, covariates, outcome="watch_s")
        found = covariance(fit, design, kind=kind, clusters=frame["village"].to_numpy())
        assert effect.estimate == pytest.approx(fit.coef[1], rel=1e-10)
        assert effect.std_error**2 == pytest.approx(found.matrix[1, 1], rel=1e-9)
        assert effect.baseline_cov == pytest.approx(found.matrix[0, 1], rel=1e-9)
        df = np.broadcast_to(found.df, 2)[1] if kind != "CR2" else found.df[1]
        assert effect.df == pytest.approx(df, rel=1e-8)
        assert effect.n_clusters == 24


@FEW
def test_ab_test_auto_takes_cr2_below_fifty_clusters_an_arm_and_cr1_from_there():
    few = ab_test(log(), metric="watch_s", arm="arm", cluster="village")
    assert few.details["covariance"] == "CR2"
    frame = log(seed=3)
    for n, kind in ((49, "CR2"), (50, "CR1")):
        part = frame[frame["viewer_id"] < 2 * n]
        effect = ab_test(part, metric="watch_s", arm="arm", cluster="viewer_id")
        assert effect.details["covariance"] == kind
        assert effect.details["clusters_control"] == effect.details["clusters_treatment"] == n


def test_ab_test_unit_in_both_arms_links_them():
    frame = log(crossing=True)
    table = frame.groupby(["viewer_id", "arm"], as_index=False)["watch_s"].sum()
    psi = np.zeros(240)
    for a, sign in ((0, -1), (1, 1)):
        part = table[table["arm"] == a]
        e = (part["watch_s"] - part["watch_s"].mean()) / len(part)
        psi[part["viewer_id"]] += sign * e / math.sqrt(1 - 1 / len(part))
    effect = ab_test(frame, metric=Mean("watch_s", per="viewer_id"), arm="arm")
    assert effect.std_error**2 == pytest.approx(np.sum(psi**2), rel=1e-11)
    n_viewers = table["viewer_id"].nunique()
    assert effect.n_clusters == effect.n_obs == n_viewers < len(table)
    assert effect.df == n_viewers - 1


def test_ab_test_winsorises_at_quantiles_of_both_arms_together():
    frame = users(101)
    low, high = np.quantile(frame["y"], [0.05, 0.9])
    a, b = np.quantile(frame["x"], [0.05, 0.9])
    cut = frame.assign(y=frame["y"].clip(low, high), x=frame["x"].clip(a, b))
    metric = Mean("y", covariates=["x"], winsor=(0.05, 0.9))
    effect = ab_test(frame, metric=metric, arm="arm")
    direct = ab_test(cut, metric=Mean("y", covariates=["x"]), arm="arm")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert effect.std_error == pytest.approx(direct.std_error, rel=1e-12)
    said = effect.details["winsor"]
    assert (said["y"]["low"], said["y"]["high"]) == pytest.approx((low, high), rel=1e-12)
    assert (said["x"]["low"], said["x"]["high"]) == pytest.approx((a, b), rel=1e-12)
    assert said["y"]["share_below"] == pytest.approx((frame["y"] < low).mean())
    assert said["y"]["share_above"] == pytest.approx((frame["y"] > high).mean())


def test_ab_test_winsorises_values_per_unit():
    frame = log()
    table = frame.groupby(["viewer_id", "arm"], as_index=False)["watch_s"].sum()
    high = np.quantile(table["watch_s"], 0.9)
    metric = Mean("watch_s", per="viewer_id", winsor=(0, 0.9))
    effect = ab_test(frame, metric=metric, arm="arm")
    direct = ab_test(
        table.assign(watch_s=table["watch_s"].clip(upper=high)), metric="watch_s", arm="arm"
    )
    assert effect.details["winsor"]["watch_s"]["high"] == pytest.approx(high, rel=1e-12)
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)


def test_ab_test_relative_effect_is_the_ratio_of_arm_levels_by_the_delta_method():
    frame = users(200)
    effect = ab_test(frame, metric="y", arm="arm")
    y0, y1 = (frame.loc[frame["arm"] == a, "y"] for a in (0, 1))
    r = y1.mean() / y0.mean()
    variance = (y1.var() / len(y1) + r**2 * y0.var() / len(y0)) / y0.mean() ** 2
    assert effect.relative().estimate == pytest.approx(r - 1, rel=1e-11)
    assert effect.relative().std_error ** 2 == pytest.approx(variance, rel=1e-11)
    t2 = stats.t.ppf(0.975, effect.df) ** 2
    for bound in effect.relative_conf_int():
        lift = 1 + bound  # a root of Fieller's quadratic
        gap = y1.mean() - lift * y0.mean()
        assert gap**2 == pytest.approx(
            t2 * (y1.var() / len(y1) + lift**2 * y0.var() / len(y0)), rel=1e-8
        )


# ---------------------------------------------------------------- reference


@pytest.mark.reference
@FEW
@pytest.mark.parametrize(
    "case",
    REFERENCE["statsmodels"],
    ids=lambda c: f"{'+'.join(c['covariates'])}-{c['weight']}-{c['kind']}-{c['cluster']}",
)
def test_ab_test_equals_statsmodels(case):
    effect = ab_test(
        reference_rows(),
        metric=Mean("y", covariates=case["covariates"]),
        arm="arm",
        weight=case["weight"],
        cluster=case["cluster"],
        covariance=case["kind"],
    )
    assert [effect.baseline, effect.estimate] == pytest.approx(case["coef"], **EQUAL)
    (v0, c), (_, v) = case["cov"]
    assert effect.std_error**2 == pytest.approx(v, **EQUAL)
    assert effect.baseline_variance == pytest.approx(v0, **EQUAL)
    assert effect.baseline_cov == pytest.approx(c, **EQUAL)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "metric"),
    [("mean", Mean("y")), ("cuped", Mean("y", covariates=["x1"])), ("ratio", Ratio("num", "den"))],
)
def test_ab_test_equals_tea_tasting(name, metric):
    stored = REFERENCE["tea_tasting"][name]
    effect = ab_test(reference_rows(), metric=metric, arm="arm", adjustment="cuped")
    assert effect.estimate == pytest.approx(stored["effect_size"], rel=1e-9)
    assert effect.estimate / effect.std_error == pytest.approx(stored["statistic"], rel=1e-9)
    assert effect.p_value == pytest.approx(stored["pvalue"], rel=1e-9)
    assert effect.conf_int() == pytest.approx(
        (stored["effect_size_ci_lower"], stored["effect_size_ci_upper"]), rel=1e-9
    )
    assert effect.baseline == pytest.approx(stored["control"], rel=1e-9)
    assert effect.relative().estimate == pytest.approx(stored["rel_effect_size"], rel=1e-9)


@pytest.mark.reference
def test_ab_test_ratio_with_covariate_ratio_is_near_tea_tastings():
    # Both subtract theta times the pre-period ratio. tea-tasting takes each arm's own ratio, here
    # its linear part around the pooled ratio: the difference is of second order in the imbalance.
    stored = REFERENCE["tea_tasting"]["ratio_cuped"]
    metric = Ratio("num", "den", covariate_ratio=("num0", "den0"))
    effect = ab_test(reference_rows(), metric=metric, arm="arm", adjustment="cuped")
    assert effect.estimate == pytest.approx(stored["effect_size"], rel=1e-3)
    assert effect.estimate / effect.std_error == pytest.approx(stored["statistic"], rel=1e-3)


# ---------------------------------------------------------------- arms and units

ARMS = {
    "0/1": lambda a: a,
    "bool": lambda a: a.astype(bool),
    "float": lambda a: a.astype(float),
    "categorical 0/1": lambda a: a.astype("category"),
    "nullable": lambda a: a.astype("Int8"),
}
NAMED_ARMS = {
    "text": (lambda a: a.map({0: "old", 1: "new"}), "old", "new"),
    "categorical": (lambda a: a.map({0: "old", 1: "new"}).astype("category"), "old", "new"),
    "numbers": (lambda a: a.map({0: 17, 1: 4}), 17, 4),
    "reversed": (lambda a: 1 - a, 1, 0),
}


@pytest.mark.parametrize("kind", ARMS)
def test_ab_test_zero_one_arms_need_no_control(kind):
    frame = users(60)
    effect = ab_test(frame.assign(arm=ARMS[kind](frame["arm"])), metric="y", arm="arm")
    plain = ab_test(frame, metric="y", arm="arm")
    assert (effect.estimate, effect.std_error) == (plain.estimate, plain.std_error)


@pytest.mark.parametrize("kind", NAMED_ARMS)
def test_ab_test_other_arms_need_control(kind):
    frame = users(60)
    make, control, treatment = NAMED_ARMS[kind]
    named = frame.assign(arm=make(frame["arm"]))
    plain = ab_test(frame, metric="y", arm="arm")
    effect = ab_test(named, metric="y", arm="arm", control=control)
    assert effect.estimate == pytest.approx(plain.estimate, rel=1e-12)
    assert (effect.details["control"], effect.details["treatment"]) == (control, treatment)
    if kind != "reversed":
        with pytest.raises(ValueError, match="pass control="):
            ab_test(named, metric="y", arm="arm")


def test_ab_test_of_three_arms_needs_both_names_and_reads_only_these():
    frame = users(120)
    three = frame.assign(arm=np.array(["A", "B", "C"])[np.arange(120) % 3])
    metrics = [
        Mean("y"),
        Mean("y", winsor=(0.1, 0.9), covariates=["x"]),
        Ratio("y", "z", covariate_ratio=("x", "w")),
    ]
    for treatment, metric in itertools.product(("B", "C"), metrics):
        effect = ab_test(three, metric=metric, arm="arm", control="A", treatment=treatment)
        pair = three[three["arm"].isin(["A", treatment])]
        two = ab_test(pair, metric=metric, arm="arm", control="A")
        ours = (effect.estimate, effect.std_error)
        assert ours == pytest.approx((two.estimate, two.std_error), rel=1e-12)
        card = ab_tests(three, metrics=[metric], arm="arm", control="A")
        (row,) = [r for r in card.rows if r.treatment == treatment]
        assert row.effect.estimate == pytest.approx(effect.estimate, rel=1e-12)
    with pytest.raises(ValueError, match="more than two arms"):
        ab_test(three, metric="y", arm="arm", control="A")
    with pytest.raises(ValueError, match="pass control="):
        ab_test(three, metric="y", arm="arm")


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        (lambda n: np.zeros(n, int), {}, "at least two levels"),
        (lambda n: np.linspace(0, 1, n), {}, "a dose is no arm"),
        (lambda n: np.arange(n), {"control": 0}, "a dose is no arm"),
        (lambda n: np.arange(n) % 2, {"control": "A"}, "'A' is not among the arms"),
        (lambda n: np.arange(n) % 2, {"treatment": 5}, "5 is not among the arms"),
        (lambda n: np.arange(n) % 2, {"control": 1, "treatment": 1}, "must differ"),
        (lambda n: (np.arange(n) == 3).astype(int), {}, "at least 2 records; it has 1"),
    ],
)
def test_ab_test_refuses_arms_that_cannot_be_compared(arms, options, message):
    frame = users(60)
    with pytest.raises(ValueError, match=message):
        ab_test(frame.assign(arm=arms(60)), metric="y", arm="arm", **options)


def test_ab_test_unit_claims_one_row_a_unit():
    frame = users(60)
    assert ab_test(frame, metric="y", arm="arm", unit="viewer_id").details["counted"] == "viewers"
    twice = pd.concat([frame, frame.iloc[[4]]])
    with pytest.raises(ValueError, match=r"1 units repeat, e\.g\. 4; sum rows with per="):
        ab_test(twice, metric="y", arm="arm", unit="viewer_id")
    crossing = pd.concat([frame, frame.iloc[:7].assign(arm=1 - frame["arm"].iloc[:7])])
    with pytest.raises(ValueError, match=r"7 units repeat, 7 of them in both arms, e\.g\. 0, 1"):
        ab_test(crossing, metric="y", arm="arm", unit="viewer_id")


@FEW
@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("watch_s", {"cluster": "viewer_id"}),
        (Mean("watch_s", per="viewer_id"), {}),
        (Mean("watch_s", per="viewer_id"), {"cluster": "village"}),
        (Ratio("clicks", "views"), {"cluster": "viewer_id"}),
    ],
)
def test_ab_test_unit_is_in_one_arm_also_where_its_rows_repeat(metric, options):
    frame = log()
    effect = ab_test(frame, metric=metric, arm="arm", unit="viewer_id", **options)
    same_without = ab_test(frame, metric=metric, arm="arm", **options)
    assert effect.std_error == pytest.approx(same_without.std_error, rel=1e-12)
    crossing = pd.concat([frame, frame.iloc[:1].assign(arm=1 - frame["arm"].iloc[:1])])
    with pytest.raises(ValueError, match=r"unit 'viewer_id' must be in one arm; 1 units .* e.g. 0"):
        ab_test(crossing, metric=metric, arm="arm", unit="viewer_id", **options)


@FEW
def test_ab_test_counts_what_it_averages_over():
    frame = log()
    clustered = {"arm": "arm", "unit": "viewer_id", "cluster": "viewer_id"}
    rows = ab_test(frame, metric="watch_s", **clustered)
    assert (rows.n_obs, rows.details["counted"]) == (len(frame), "rows")
    crossing = log(crossing=True)
    ratio = ab_test(crossing, metric=Ratio("clicks", "views"), arm="arm", cluster="village")
    assert (ratio.n_obs, ratio.n_clusters, ratio.details["counted"]) == (
        24,
        24,
        "values of village",
    )


@FEW
def test_ab_test_per_must_lie_within_one_cluster():
    with pytest.raises(ValueError, match=r"'viewer_id'.*'day'"):
        ab_test(log(), metric=Mean("watch_s", per="viewer_id"), arm="arm", cluster="day")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "CR1"}, "needs cluster="),
        ({"covariance": "HC2", "cluster": "village"}, "ignores the clusters"),
        ({"covariance": "HC4"}, "covariance must be one of"),
        ({"adjustment": "ancova"}, "adjustment must be one of"),
        ({"missing": "fill"}, "missing must be one of"),
    ],
)
def test_ab_test_refuses_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ab_test(log(), metric="watch_s", arm="arm", **options)


@pytest.mark.parametrize(
    "metric", [Mean("watch_s", per="viewer_id"), Ratio("clicks", "views"), Quantile("watch_s", 0.5)]
)
def test_ab_test_refuses_weights_where_rows_are_summed_or_ranked(metric):
    with pytest.raises(ValueError, match="weight"):
        ab_test(log(), metric=metric, arm="arm", weight="weight")


def test_ab_test_rows_of_weight_zero_are_as_if_absent():
    frame = users(80)
    frame.loc[frame.index % 4 < 2, "w"] = 0.0
    effect = ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", weight="w")
    direct = ab_test(
        frame[frame["w"] > 0], metric=Mean("y", covariates=["x"]), arm="arm", weight="w"
    )
    for name in ("estimate", "std_error", "df", "n_obs"):
        assert getattr(effect, name) == pytest.approx(getattr(direct, name), rel=1e-12)


# ---------------------------------------------------------------- what warns, once, with figures


def warned(call):
    """Messages of the EstimationWarnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(w.category, EstimationWarning) for w in caught)
    return [str(w.message) for w in caught]


def test_ab_test_warns_of_missing_rows_with_shares_and_a_test():
    frame = users(400)
    frame.loc[frame.index[:30], "y"] = np.nan
    frame.loc[(frame["arm"] == 1) & (frame.index >= 300), "x"] = np.nan
    metric = Mean("y", covariates=["x"])
    (said,) = warned(lambda: ab_test(frame, metric=metric, arm="arm"))
    n = frame.groupby("arm").size()
    gone = frame.assign(gone=frame[["y", "x"]].isna().any(axis=1)).groupby("arm")["gone"].sum()
    table = np.array([gone, n - gone])
    p = stats.chi2_contingency(table, correction=False).pvalue
    for part in ("'y' (30 rows)", f"0: {100 * gone[0] / n[0]:.2g}%", f"p = {p:.3g}", "biased"):
        assert part in said
    with pytest.warns(EstimationWarning, match="left out"):
        effect = ab_test(frame, metric=metric, arm="arm")
    kept = ab_test(frame.dropna(), metric=metric, arm="arm")
    assert (effect.estimate, effect.std_error) == (kept.estimate, kept.std_error)


def test_ab_test_missing_values_of_a_third_arm_are_no_concern():
    frame = users(90)
    three = frame.assign(arm=np.array(["A", "B", "C"])[np.arange(90) % 3])
    three.loc[three["arm"] == "C", "y"] = np.nan
    effect = ab_test(three, metric="y", arm="arm", control="A", treatment="B", missing="raise")
    assert effect.n_obs == 60


@pytest.mark.filterwarnings("ignore:rows with missing:causal.effect.EstimationWarning")
@pytest.mark.parametrize(
    "metric", [Mean("y"), Mean("y", winsor=(0, 0.9)), Quantile("y", 0.5), Ratio("y", "z")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_ab_test_names_the_arm_whose_outcome_is_wholly_missing(metric, whole):
    frame = users(90)
    frame.loc[np.ones(90, bool) if whole else frame["arm"] == 0, "y"] = np.nan
    with pytest.raises(ValueError, match="arm 0 needs at least 2 records; it has 0"):
        ab_test(frame, metric=metric, arm="arm")


@pytest.mark.parametrize(("scale", "name"), [(1e-200, "y"), (1e200, "y"), (1e200, "x")])
def test_ab_test_names_the_column_whose_squares_leave_a_double(scale, name):
    frame = users(90)
    frame[name] *= scale
    with pytest.raises(ValueError, match=f"column '{name}' must have squares within a double"):
        ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm")


def test_ab_test_missing_raise_refuses_and_names():
    frame = with_gaps(users(200), ["y", "x"])
    with pytest.raises(ValueError, match=r"'y' \(\d+ rows\), 'x' \(\d+ rows\)"):
        ab_test(frame, metric=Mean("y", covariates=["x"]), arm="arm", missing="raise")


def test_ab_test_missing_column_of_no_metric_is_no_concern():
    frame = users(100).assign(x=np.nan)
    assert warned(lambda: ab_test(frame, metric="y", arm="arm", missing="raise")) == []


def test_ab_test_warns_of_a_constant_outcome():
    frame = users(50).assign(y=7.0)
    (said,) = warned(lambda: ab_test(frame, metric="y", arm="arm"))
    assert "'y' is constant" in said
    with pytest.warns(EstimationWarning):
        effect = ab_test(frame, metric="y", arm="arm")
    assert (effect.estimate, effect.std_error, effect.baseline) == (0.0, 0.0, 7.0)


def test_ab_test_leaves_constant_and_collinear_covariates_out_by_name():
    frame = users(80).assign(flat=3.0, double=lambda f: 2 * f["x"] - 5)
    metric = Mean("y", covariates=["x", "flat", "double", "z"])
    (said,) = warned(lambda: ab_test(frame, metric=metric, arm="arm"))
    assert said.endswith("flat, double")
    with pytest.warns(EstimationWarning):
        effect = ab_test(frame, metric=metric, arm="arm")
    direct = ab_test(frame, metric=Mean("y", covariates=["x", "z"]), arm="arm")
    assert effect.estimate == pytest.approx(direct.estimate, rel=1e-12)
    assert list(effect.details["covariates"]) == ["x", "z"]


def test_ab_test_refuses_a_covariate_that_is_the_arm_and_too_many():
    frame = users(60).assign(copy=lambda f: 2.0 * f["arm"] + 1)
    with pytest.raises(ValueError, match=r"'copy'.*is the arm itself"):
        ab_test(frame, metric=Mean("y", covariates=["copy"]), arm="arm")
    wide = users(12).assign(**{f"c{j}": np.random.default_rng(j).normal(size=12) for j in range(6)})
    with pytest.raises(ValueError, match=r"covariates.*the smallest has 6"):
        ab_test(wide, metric=Mean("y", covariates=[f"c{j}" for j in range(6)]), arm="arm")


def test_ab_test_warnings_point_at_the_callers_line():
    frame = users(50).assign(y=7.0, touched=1)
    for call in (
        lambda: ab_test(frame, metric="y", arm="arm"),
        lambda: ab_test(with_gaps(users(100), ["y"]), metric="y", arm="arm"),
        lambda: ab_test(log(), metric="watch_s", arm="arm", cluster="village"),
    ):
        with pytest.warns(EstimationWarning) as caught:
            call()
        assert {w.filename for w in caught} == {__file__}


def test_ab_test_warns_of_few_clusters():
    said = warned(lambda: ab_test(log(), metric="watch_s", arm="arm", cluster="village"))
    assert any("few clusters of 'village': 12 in control, 12 in treatment" in s for s in said)


@pytest.mark.parametrize("kind", ["CR1", "CR2"])
def test_ab_test_warns_of_one_cluster_that_carries_the_variance(kind):
    frame = log(seed=4)
    big = frame[frame["viewer_id"] < 140].copy()
    big.loc[big["viewer_id"] == 3, "watch_s"] += 400
    said = warned(
        lambda: ab_test(big, metric="watch_s", arm="arm", cluster="viewer_id", covariance=kind)
    )
    assert len(said) == 1
    share = int(said[0].split("carries ")[1].split(" %")[0])
    assert 50 < share <= 100
    assert "'viewer_id'" in said[0]


def test_ab_test_warns_of_a_control_level_near_zero():
    frame = users(80).assign(y=lambda f: f["y"] - f.loc[f["arm"] == 0, "y"].mean() + 0.01)
    (said,) = warned(lambda: ab_test(frame, metric="y", arm="arm"))
    assert "control level 0.01 is not distinguishable from 0" in said


def test_ab_test_leverage_of_one_raises_or_is_left_to_hc1():
    frame = users(60)
    frame["alone"] = (frame.index == 5).astype(float)
    frame.loc[frame.index[frame["arm"] != frame["arm"].iloc[5]][0], "alone"] = 1.0
    with pytest.raises(ValueError, match="leverage 1"):
        ab_test(frame, metric=Mean("y", covariates=["alone"]), arm="arm")
    assert (
        ab_test(
            frame, metric=Mean("y", covariates=["alone"]), arm="arm", covariance="HC1"
        ).std_error
        > 0
    )
