"""The state equations written as plainly as they stand: one world, one viewers x authors matrix.

Slow on purpose; `recsys.flow_worlds` must give the same numbers. Hours as ticks only.
"""

import math

import numpy as np

from recsys import Arms


def plain_world(platform, arms, strategy, *, hours, warm_up_hours, before_hours, draws):
    """Watching shares (hours, N, J) of one world after the time before, one tick an hour."""
    run = {
        "hours": hours,
        "warm_up_hours": warm_up_hours,
        "before_hours": before_hours,
        "draws": draws,
    }
    return one_world(platform, arms, strategy, control_paths(platform, strategy, **run), **run)


def control_paths(platform, strategy, *, hours, warm_up_hours, before_hours, draws):
    """Inside shares and audiences of the all-control world: habit and effort move around them."""
    n_before = before_hours + warm_up_hours
    return _run(platform, Arms.none(), strategy, hours, n_before, warm_up_hours, draws, None)


def one_world(platform, arms, strategy, control, *, hours, warm_up_hours, before_hours, draws):
    """Watching shares (hours, N, J) of a world, given the control's paths."""
    n_before = before_hours + warm_up_hours
    return _run(platform, arms, strategy, hours, n_before, warm_up_hours, draws, control)["flow"]


def _run(platform, arms, strategy, hours, n_before, warm_up, draws, control):
    p = platform.parameters
    n, m = platform.n_viewers, platform.n_authors
    activity = platform.viewers["activity"].to_numpy()
    region = platform.viewers["region"].to_numpy()
    cap = platform.authors["capacity"].to_numpy()
    lift = np.broadcast_to(strategy.lift + np.asarray(strategy.author_lift), m)
    audience, heat, effort, habit = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(n)
    quality = np.ones((2, m))
    shares, audiences, flows = [], [], []
    for t in range(-n_before, hours):
        if t == 0:
            quality[1] = quality[0]
        hour = t + n_before - warm_up  # of the clock: 0 at the end of the warm-up
        row = draws.warm_up_hours + hour
        partner = draws.partner[row]
        live = draws.live_share(hour, hour + 1)
        if t >= 0:
            viewer = np.broadcast_to(arms.viewer if np.ndim(arms.viewer) < 2 else arms.viewer[t], n)
            author = np.broadcast_to(arms.author, m)
            z = np.broadcast_to(arms.time, (platform.n_regions, hours))[:, t][region]
        else:
            viewer, author, z = np.zeros(n), np.zeros(m), np.zeros(n)
        either = np.array(
            [max(author[j], author[partner[j]] if partner[j] >= 0 else 0) for j in range(m)]
        )
        W = (viewer * z)[:, None] * either
        x = np.where((viewer * z)[:, None] > 0, quality[1], quality[0])
        x = x * np.exp(strategy.exposure_lift * W)
        x = x / ((x * live).sum(axis=1, keepdims=True) / live.sum())
        utility = (
            platform.affinity
            - p.kappa * np.log(1 + audience / cap)
            + p.chi * heat
            + effort
            + p.b_pk * (partner >= 0)
            + lift * W
        )
        logit = p.a0 + activity + p.tod * math.sin(2 * math.pi * (hour + 0.5) / 24)
        logit = logit + draws.shock[row] + p.eta * habit + strategy.activity_lift * viewer * z
        online = np.minimum(np.exp(p.noise * draws.noise(hour)) / (1 + np.exp(-logit)), 1)
        weight = live * x * np.exp(utility)
        outside = math.exp(p.u0) * live.sum() / 40
        share = weight / (outside + weight.sum(axis=1, keepdims=True))
        flow = online[:, None] * share
        inside, audience = share.sum(axis=1), flow.sum(axis=0)
        shares.append(inside)
        audiences.append(audience)
        if t >= 0:
            flows.append(flow)
        heat = p.rho_m * heat + (1 - p.rho_m) * np.log(1 + audience / cap)
        if control is not None:
            there = control["audiences"][len(audiences) - 1]
            ratio = np.array(
                [a / c if c > 0 else 1.0 for a, c in zip(audience, there, strict=True)]
            )
            growth = p.psi * np.log(np.where(ratio > 0, ratio, 1.0))
            incentive = strategy.effort_lift * author * z.mean()
            effort = p.rho_e * effort + (1 - p.rho_e) * (growth + incentive)
            usual = control["shares"][len(shares) - 1]
            habit = p.rho_h * habit + (1 - p.rho_h) * (inside - usual)
        if p.learning_rate:
            quality = _learned(p, quality, flow, x * live, online, viewer * z)
    return {"flow": np.array(flows), "shares": shares, "audiences": audiences}


def _learned(p, quality, flow, exposure, online, treated):
    """Watch per exposure over its mean over exposed rooms, by arm or of all."""
    found = quality.copy()
    for arm in (0, 1):
        who = treated == arm if p.learning == "diverted" else np.ones(len(treated), dtype=bool)
        watch, seen = flow[who].sum(axis=0), (exposure * online[:, None])[who].sum(axis=0)
        rooms = seen > 0
        if not rooms.any():
            continue
        rate = watch[rooms] / seen[rooms]
        found[arm, rooms] = (1 - p.learning_rate) * quality[arm, rooms]
        found[arm, rooms] += p.learning_rate * rate / rate.mean()
    return found
