"""What may be measured: metric classes and their shortcuts."""

import dataclasses

import pytest

from experiments import Mean, Quantile, Ratio
from experiments.splits.metric import as_metric


def test_as_metric_reads_the_shortcuts():
    assert as_metric("watch_s") == Mean("watch_s")
    assert as_metric(("clicks", "views")) == Ratio("clicks", "views")
    assert as_metric(["clicks", "views"], "ctr") == Ratio("clicks", "views", name="ctr")
    quantile = Quantile("watch_s", 0.9)
    assert as_metric(quantile, "ignored") is quantile


@pytest.mark.parametrize("bad", [None, 3, ("a",), ("a", "b", "c"), ("a", 2), {"a": 1}])
def test_as_metric_refuses_anything_else(bad):
    with pytest.raises(TypeError, match="a metric must be Mean, Ratio, Quantile"):
        as_metric(bad)


def test_metric_labels_say_what_is_measured():
    assert Mean("watch_s").label == "watch_s"
    assert Ratio("clicks", "views").label == "clicks / views"
    assert Quantile("watch_s", 0.5).label == "p50 of watch_s"
    assert Quantile("watch_s", 0.999).label == "p99.9 of watch_s"
    assert Mean("watch_s", name="watch time").label == "watch time"


def test_metrics_are_frozen_hashable_values():
    metric = Mean("y", covariates=["x"], winsor=[0, 1])
    assert metric == Mean("y", covariates=("x",), winsor=(0.0, 1.0))
    assert hash(metric) == hash(Mean("y", covariates=("x",), winsor=(0.0, 1.0)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        metric.outcome = "z"


@pytest.mark.parametrize(
    "winsor", [(0.5, 0.5), (0.9, 0.1), (-0.1, 1), (0, 1.1), 0.1, [0.9], ("0", "1")]
)
def test_mean_refuses_winsor_limits_that_are_no_quantiles(winsor):
    with pytest.raises(ValueError, match=r"winsor must be two quantiles .* such as \(0, 0.999\)"):
        Mean("y", winsor=winsor)


@pytest.mark.parametrize("q", [0, 1, -0.1, 95, True])
def test_quantile_refuses_q_outside_zero_one(q):
    with pytest.raises(ValueError, match=r"q must be in \(0, 1\)"):
        Quantile("y", q)


MAKERS = {
    "Mean": lambda **o: Mean("y", **o),
    "Ratio": lambda **o: Ratio("y", "d", **o),
    "Quantile": lambda **o: Quantile("y", 0.5, **o),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "guardrail"}, "needs margin="),
        ({"role": "guardrail", "margin": 0}, r"margin must be in \(0, 1\)"),
        ({"margin": "1"}, r"margin must be in \(0, 1\).*'1'"),
        ({"margin": 1.5}, r"margin must be in \(0, 1\)"),
        ({"role": "gaol"}, "did you mean 'goal'"),
        ({"better": "up"}, "better must be one of"),
    ],
)
def test_metric_refuses_roles_that_do_not_fit(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_metric_refuses_a_text_as_list_of_covariates():
    for make in (MAKERS["Mean"], MAKERS["Ratio"]):
        with pytest.raises(TypeError, match="covariates must be a list of names"):
            make(covariates="before")


def test_ratio_refuses_a_covariate_ratio_that_is_no_pair():
    with pytest.raises(ValueError, match=r"\(numerator, denominator\)"):
        Ratio("y", "d", covariate_ratio=("a", "b", "c"))
