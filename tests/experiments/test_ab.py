"""One metric of an A/B test: exact formulas, and the stored numbers of others."""

import math

import numpy as np
import pytest
from ab_tables import REFERENCE, log, reference_rows, users
from scipy import stats

from causal.linear import covariance, least_squares
from experiments import Mean, Ratio, ab_test

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
    # the scores' own covariance with the mean of x, left out without weights, is of second order
    error = "superpopulation_std_error"
    assert even.details[error] == pytest.approx(plain.details[error], rel=0.01)


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
