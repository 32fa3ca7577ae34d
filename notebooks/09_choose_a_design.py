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
# # Choosing a design
#
# A new ranking is to be launched for everybody. What will it do? Viewers compete for rooms, habits
# last, authors react to their audience: every experiment answers a slightly different question.
# On the simulated platform the truth is known, so designs can be told apart before one is run.

# %%
import warnings

from causal import EstimationWarning
from recsys import LivePlatform, Strategy

warnings.simplefilter("ignore", EstimationWarning)  # 14 slices are few; the page says so
platform = LivePlatform(n_viewers=300, n_authors=40, seed=1)
strategy = Strategy(lift=0.25, name="new ranking")

# %% [markdown]
# ## The truth
#
# Everybody treated minus nobody, on the same draws of chance.

# %%
from experiments import true_effect

truth = true_effect(platform, strategy, hours=14 * 24, replications=4)
print(truth)
print(truth.relative())

# %% [markdown]
# ## Triangulation
#
# One strategy, read by every method. Dots are estimates with their intervals, diamonds what the
# method compares in expectation. The reason of a gap is measured: everything is run again with one
# mechanism off.

# %%
from experiments import triangulate

found = triangulate(platform, strategy=strategy, hours=14 * 24, replications=3)
found.plot();

# %%
found.table[["method", "estimate", "target", "truth", "estimand_gap", "reason"]].round(2)

# %%
gaps = found.table.set_index("method")["estimand_gap"]
assert gaps["author split"] > 0 > gaps["viewer split"]  # cannibalised, and without authors' effort

# %% [markdown]
# ## Both sides at once
#
# Viewers and authors are dealt to arms. From neither to both: what spills over to treated viewers'
# other authors, to treated authors' other viewers, and what a pair gains because both are treated.

# %%
import pandas as pd

from experiments import DualSided, dual_sided_effect
from recsys import Arms, flow_worlds

arms = DualSided(salt="both").assign(
    platform.viewers["viewer_id"], platform.authors["author_id"], seed=1
)
world = flow_worlds(
    platform,
    {"both": Arms(viewer=arms.viewer_arm, author=arms.author_arm)},
    strategy=strategy,
    hours=14 * 24,
    record="pairs",
    seed=1,
)["both"]
both = dual_sided_effect(
    world.pair_table(),
    outcome="watch_minutes",
    viewer="viewer_id",
    author="author_id",
    viewer_arm="viewer_arm",
    author_arm="author_arm",
)
both.plot();

# %% [markdown]
# ## A plan from a pilot
#
# Two weeks of a rotation by six hours. Short slices carry over into each other, long ones are few:
# the frontier shows what each costs.

# %%
from experiments import Switchback, recommend

schedule = Switchback(360).schedule(start="2026-03-02", days=14, seed=7)
hours = pd.date_range("2026-03-02", periods=336, freq="h")
arm = schedule.treatment_at(hours)
run = flow_worlds(
    platform, {"pilot": Arms(time=arm)}, strategy=strategy, hours=336, record="totals", seed=3
)["pilot"]
pilot = pd.DataFrame({"ts": hours, "arm": arm, "watch": 60 * run.watch})

plan = recommend(
    pilot, outcome="watch", time="ts", treatment="arm", schedule=schedule, effect=1.0, days=14
)
print(plan)

# %%
plan.plot();

# %%
columns = ["design", "bias_low", "bias_high", "std_error", "rmse", "power", "rejected"]
plan.table[columns].head(8).round(3)

# %% [markdown]
# ## On a page
#
# Any of these results can be put on one self-contained page that people read.

# %%
import tempfile

from experiments import write_page

files = write_page([found, both, plan], tempfile.mkdtemp(), title="Which experiment to run?")
print(files.html.name, files.html.stat().st_size < 300_000)
