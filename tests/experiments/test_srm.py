"""Sample ratio mismatch: statistics, exact p-values, cells, counting of units."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from ab_tables import log
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments import srm_test


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ({"A": 5100, "B": 4900}, None),
        ({"A": 900, "B": 210, "C": 95}, {"A": 9, "B": 2, "C": 1}),
        ({0: 20, 1: 31}, {0: 0.5, 1: 0.5}),
    ],
)
def test_srm_test_is_pearsons_chi_square(counts, share):
    check = srm_test(counts, expected_share=share)
    total = sum(counts.values())
    weight = share or dict.fromkeys(counts, 1)
    expected = {a: total * w / sum(weight.values()) for a, w in weight.items()}
    found = stats.chisquare([counts[a] for a in expected], list(expected.values()))
    assert check.statistic == pytest.approx(found.statistic, rel=1e-12)
    assert check.p_value == pytest.approx(found.pvalue, rel=1e-10)
    assert check.expected == pytest.approx(expected, rel=1e-12)
    assert check.counts == counts


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0.05, 0.95))
def test_srm_test_of_two_small_arms_is_the_exact_binomial_test(a, b, share):
    if a + b == 0 or min(share, 1 - share) * (a + b) >= 5:
        return
    check = srm_test({"A": a, "B": b}, expected_share={"A": share, "B": 1 - share})
    assert check.p_value == pytest.approx(stats.binomtest(a, a + b, share).pvalue, rel=1e-6)


def test_srm_test_of_three_small_arms_is_the_exact_multinomial_test():
    n, p = np.array([5, 1, 4]), np.array([0.2, 0.3, 0.5])
    tables = [t for t in itertools.product(range(11), repeat=3) if sum(t) == 10]
    mass = stats.multinomial(10, p).pmf(tables)
    seen = stats.multinomial(10, p).pmf(n)
    expected = mass[mass <= seen * (1 + 1e-9)].sum()
    check = srm_test(
        dict(zip("ABC", n.tolist(), strict=True)), expected_share=dict(zip("ABC", p, strict=True))
    )
    assert check.p_value == pytest.approx(expected, rel=1e-9)


def test_srm_test_exact_p_value_is_valid_over_all_tables():
    share = {"A": 0.3, "B": 0.7}
    mass = stats.binom(12, 0.3).pmf(range(13))
    p = [srm_test({"A": k, "B": 12 - k}, expected_share=share).p_value for k in range(13)]
    for alpha in (0.01, 0.05, 0.2):
        assert mass[np.array(p) <= alpha].sum() <= alpha


def test_srm_test_of_two_arms_is_exact_at_any_size():
    check = srm_test({"A": 7, "B": 6_000_000}, expected_share={"A": 5e-7, "B": 1 - 5e-7})
    assert check.p_value == pytest.approx(stats.poisson.sf(6, 3.0), rel=0.05)


def test_srm_test_of_many_small_arms_is_that_of_drawn_tables():
    counts = dict.fromkeys(range(40), 2) | {0: 9}
    check = srm_test(counts)
    exact_mean = np.mean(
        [
            srm_test(dict(enumerate(t))).p_value
            for t in np.random.default_rng(1).multinomial(80, [1 / 40] * 40, 40)
        ]
    )
    assert check.p_value < stats.chi2.sf(check.statistic, 39) * 3
    assert 0.3 < exact_mean < 0.7
    assert check == srm_test(counts)


def test_srm_check_to_dict_is_plain_json():
    check = srm_test({"A": np.int64(5), "B": np.int64(7)})
    assert json.loads(json.dumps(check.to_dict()))["counts"] == {"A": 5, "B": 7}


def test_srm_test_is_not_ok_below_the_threshold_only():
    limit = stats.chi2.isf(0.0005, 1)
    near = 50_000 + math.sqrt(limit * 100_000) / 2
    for n, ok in ((math.floor(near), True), (math.ceil(near), False)):
        check = srm_test({"A": n, "B": 100_000 - n})
        assert check.ok is ok
        assert bool(check.findings()) is not ok
    assert "sample ratio mismatch" in check.findings()[0]


def test_srm_test_counts_rows_or_distinct_units_of_a_table():
    frame = log()
    rows = srm_test(frame, arm="arm")
    assert rows.counts == frame["arm"].value_counts().to_dict()
    units = srm_test(frame, arm="arm", unit="viewer_id")
    assert units.counts == frame.groupby("arm")["viewer_id"].nunique().to_dict()


def test_srm_test_tests_each_cell_with_holm_within_its_column():
    rng = np.random.default_rng(5)
    n = 4000
    frame = pd.DataFrame(
        {
            "arm": rng.integers(0, 2, n),
            "day": rng.integers(1, 4, n),
            "app": rng.choice(["ios", "web"], n),
        }
    )
    frame = frame[~((frame["day"] == 2) & (frame["arm"] == 1) & (rng.random(n) < 0.4))]
    check = srm_test(frame, arm="arm", by=["day", "app"])
    for key, part in check.by.groupby("key"):
        raw = [
            stats.chisquare(frame.loc[frame[key] == c].groupby("arm").size()).pvalue
            for c in part["cell"]
        ]
        np.testing.assert_allclose(part["p_value"].astype(float), raw, rtol=1e-9)
        worst = part["p_value"].min()
        assert part["p_adjusted"].min() == pytest.approx(min(1, worst * len(part)), rel=1e-12)
    failing = check.by[check.by["p_adjusted"] < 0.0005]
    assert failing.loc[failing["key"] == "day", "cell"].tolist() == [2]
    assert not check.ok
    assert [s for s in check.findings() if "day = 2" in s]
    assert json.loads(json.dumps(check.to_dict()))["ok"] is False


def test_srm_test_counts_an_arm_that_a_cell_lacks_as_zero():
    frame = pd.DataFrame({"arm": ["A", "B"] * 50 + ["A"] * 40, "day": [1] * 100 + [2] * 40})
    check = srm_test(frame, arm="arm", by=["day"])
    missing = check.by[check.by["cell"] == 2].iloc[0]
    assert (missing["n_A"], missing["n_B"]) == (40, 0)
    assert missing["p_value"] == pytest.approx(stats.chisquare([40, 0]).pvalue, rel=1e-9)


def test_srm_test_finds_an_arm_that_is_wholly_absent():
    check = srm_test({"A": 100}, expected_share={"A": 0.5, "B": 0.5})
    assert check.p_value < 1e-20
    assert check.expected == {"A": 50.0, "B": 50.0}


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"A": 3.5, "B": 2}, {}, "whole numbers"),
        ({"A": -1, "B": 2}, {}, "whole numbers"),
        ({"A": True, "B": 2}, {}, "whole numbers"),
        ({"A": "5", "B": 5}, {}, "whole numbers"),
        (pd.DataFrame({"arm": np.linspace(0, 1, 300)}), {"arm": "arm"}, "a dose is no arm"),
        (
            pd.DataFrame({"arm": [0, 1, 0, 1], "who": [1, 2, 3, 3]}),
            {"arm": "arm", "unit": "who"},
            r"unit 'who' must be in one arm; 1 units are in several, e\.g\. 3",
        ),
        ({"A": 5}, {}, "two arms"),
        ({"A": 0, "B": 0}, {}, "two arms"),
        ({"A": 5, "B": 5}, {"expected_share": {"A": 1}}, "every arm"),
        ({"A": 5, "B": 5}, {"expected_share": {"A": 1, "B": 0}}, "positive share"),
        ({"A": 5, "B": 5}, {"expected_share": {"A": 1, "B": float("nan")}}, "positive share"),
        ({"A": 5, "B": 5}, {"arm": "arm"}, "go with a table"),
        (pd.DataFrame({"arm": [0, 1]}), {}, "arm= must name"),
        (pd.DataFrame({"arm": [0, 1]}), {"arm": "arn"}, "did you mean 'arm'"),
    ],
)
def test_srm_test_refuses_what_cannot_be_counted(counts, options, message):
    with pytest.raises(ValueError, match=message):
        srm_test(counts, **options)
