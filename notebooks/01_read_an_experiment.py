# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading an experiment
#
# A new ranking was shown to half of the viewers for a week. Did it raise watch time, did it hurt
# anything, and can the log be trusted? The log below is made by us, so the truth is known: viewers
# of arm B watch 3 seconds more a request.

# %%
import numpy as np
import pandas as pd

rng = np.random.default_rng(20261121)
n_viewers, n_rows = 3_000, 60_000
taste = rng.gamma(2.0, 40.0, n_viewers)
viewer = rng.integers(0, n_viewers, n_rows)
treated = viewer % 2
log = pd.DataFrame(
    {
        "viewer_id": viewer,
        "arm": np.where(treated, "B", "A"),
        "day": pd.Timestamp("2026-11-09") + pd.to_timedelta(rng.integers(0, 7, n_rows), "D"),
        "new_viewer": viewer % 5 == 0,
        "watch_s_before": taste[viewer],
        "watch_s": 0.5 * taste[viewer] + 3.0 * treated + rng.exponential(30, n_rows),
        "click": rng.random(n_rows) < 0.10 + 0.01 * treated,
        "impression": 1,
        "crash": rng.random(n_rows) < 0.02,
    }
)
log.head()

# %% [markdown]
# ## One number
#
# Rows of one viewer belong together, so errors are clustered by viewer. What a viewer watched
# before the experiment explains much of what is watched now: Lin's adjustment uses it.

# %%
from experiments import Mean, ab_test

plain = ab_test(log, metric="watch_s", arm="arm", control="A", cluster="viewer_id")
metric = Mean("watch_s", covariates=["watch_s_before"])
adjusted = ab_test(log, metric=metric, arm="arm", control="A", cluster="viewer_id")
pd.concat([plain.to_frame(), adjusted.to_frame()], ignore_index=True)

# %%
print(adjusted)
low, high = adjusted.conf_int()
assert low < 3.0 < high  # the truth

# %% [markdown]
# ## The scorecard
#
# Goals share a multiplicity correction; a guardrail must be *proven* to lose less than its margin.

# %%
from experiments import ab_tests

card = ab_tests(
    log,
    arm="arm",
    control="A",
    cluster="viewer_id",
    day="day",
    metrics={
        "watch": metric,
        "click rate": ("click", "impression"),
        "crash": Mean("crash", role="guardrail", margin=0.25, better="lower"),
    },
)
card

# %% [markdown]
# ## How it developed, and for whom

# %%
from experiments import ab_curve

by_day = ab_curve(
    log, metric=metric, by="day", arm="arm", control="A", cluster="viewer_id", cumulative=True
)
by_day.plot();

# %%
by_segment = ab_curve(
    log, metric=metric, by="new_viewer", arm="arm", control="A", cluster="viewer_id"
)
by_segment.to_frame()

# %% [markdown]
# ## May one look every day?
#
# A confidence interval holds at one look that was planned. A confidence sequence holds at all.

# %%
from experiments import confidence_sequence

confidence_sequence(adjusted)

# %% [markdown]
# ## What another policy would have earned
#
# The shipped Open Bandit log: Thompson sampling chose, and logged with which probability. What
# would uniform choice have earned? livelift answers and says how little of the log speaks for it.

# %%
from causal import off_policy_value
from recsys import open_bandit

bts = open_bandit("all", "bts").joined().assign(uniform=1 / 80)
value = off_policy_value(bts, reward="click", propensity="propensity", target="uniform")
print(value.effect)
value.diagnostics.to_frame()
