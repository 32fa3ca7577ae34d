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
# # Evaluating a feature that was switched on
#
# A pendant went live for some viewers in week 7, for more in week 10; nobody drew lots. What did it
# do to watch time, for whom, and how sure may we be? Then: one city got a new ranking, and no other
# city is like it.
#
# Both panels are simulated (`examples/make_panels.py`), so that the truth is known: the pendant adds
# 4 seconds to lapsed, 2 to active and 1 to new viewers, and half a second more each week; the
# ranking adds 12 units.

# %%
import sys

sys.path.append("../examples")
from make_panels import make_cities, make_pendant

log, cities = make_pendant(), make_cities()
roles = {"outcome": "watch_s", "unit": "viewer_id", "time": "week", "cohort": "pendant_week"}
log.head(3)

# %% [markdown]
# ## Look first
#
# Who is treated when, what is missing, and which methods the panel supports.

# %%
from causal import panel_design

design = panel_design(log, **roles, stratum="state_before")
print(design)

# %%
design.methods

# %%
design.plot_trajectories(indexed=True);

# %% [markdown]
# ## A/B test or before and after?
#
# Use difference-in-differences where timing varies or nobody could draw lots. Where treatment was
# randomised and came to all treated at once, an A/B test is simpler and more precise: `panel_design`
# says so when it looks like that. Here levels differ before (the pendant went to active viewers),
# and there are two starts: an A/B read-out after the launch would be wrong by the difference in
# level.

# %%
after = log[log["week"] >= 10].assign(arm=lambda d: d["pendant_week"].notna().astype(int))

from experiments import ab_test

print(ab_test(after, metric="watch_s", arm="arm", cluster="viewer_id"))

# %% [markdown]
# ## The effect, by time since the pendant
#
# Two starts and effects that grow: a single two-way regression would compare with viewers who
# already have the pendant. Each cohort is compared with viewers who never got it instead.

# %%
from causal import group_time_effects

effects = group_time_effects(log, **roles, base="universal")
print(effects)
by_week = effects.aggregate("event")
by_week.curve.to_frame().round(2)

# %%
effects.plot();

# %%
by_week.plot();

# %% [markdown]
# Other estimators, which lean on other assumptions, should say much the same.

# %%
from causal import imputation_effects, robustness_table, sun_abraham

robustness_table(
    {
        "group-time": lambda t: group_time_effects(t, **roles),
        "Sun-Abraham": lambda t: sun_abraham(t, **roles),
        "imputation": lambda t: imputation_effects(t, **roles),
    },
    log,
).round(3)

# %% [markdown]
# ## Would we have seen a pre-trend?
#
# A test of the weeks before that does not reject proves little. How steep a trend would it have
# found in 80 of 100 cases? And how large must a violation be to overturn the claim?

# %%
from causal import pretrend_power

power = pretrend_power(by_week.curve)
print(power)

# %%
sensitivity = effects.honest(bound=[0.5, 1.0, 1.5, 2.0], at="average")
print(sensitivity)
sensitivity.plot();

# %% [markdown]
# The claim stands as long as trends after the start change by less than `breakdown` times the
# largest change that was seen before it.
#
# ## For whom?
#
# One difference-in-differences a state, each with controls of its own, joined with the weights that
# answer the question: those of the viewers who got the pendant, or those of everybody.

# %%
from causal import stratified_did

first = log[(log["pendant_week"].fillna(0) != 10) & (log["week"] < 10)]
for weights in ("treated", {"active": 0.5, "lapsed": 0.3, "new": 0.2}):
    by_state = stratified_did(first, **roles, stratum="state_before", weights=weights)
    print(by_state.effect)
by_state.plot();

# %% [markdown]
# ## One city, no twin: synthetic control
#
# Weights on other cities that follow Chengdu before week 31 stand in for it afterwards. How large
# the gap would be without an effect is read from the other cities, each treated in turn.

# %%
from causal import synthetic_control

chengdu = {"outcome": "sold", "unit": "city", "time": "week", "treated": "Chengdu", "start": 31}
control = synthetic_control(cities, **chengdu)
print(control)
control.plot("paths");

# %%
control.plot("placebo");

# %%
control.leave_one_out.round(2)

# %% [markdown]
# Synthetic difference-in-differences weighs periods too and needs parallel paths only, not equal
# ones.

# %%
from causal import synthetic_diff_in_diff

print(synthetic_diff_in_diff(cities, **chengdu))

# %% [markdown]
# The same as a page that people read: `livelift report examples/pendant_study.yaml` and
# `livelift report examples/city_study.yaml`.
