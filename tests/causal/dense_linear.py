"""Dense textbook definitions of least squares and its covariances, for designs of n <= 70 rows."""

from __future__ import annotations

import numpy as np

EXACT = 1e-10  # spec: dense loops and statsmodels; designs here have condition numbers below 1e4

# rows in each cluster; designs have k = 4 columns
LAYOUTS = {
    "larger than k": [9, 12, 7, 15, 11],
    "smaller than k": [2, 3, 1, 2, 3, 2, 3, 1, 2, 3, 2, 3],
    "singletons": [1] * 30,
    "mixed": [1, 1, 2, 3, 5, 8, 13, 21, 4, 1],
    "two clusters": [14, 20],
}


def design(sizes, seed=0, k=4):
    """Intercept, a cluster-level arm, a row-level covariate, ...; heteroskedastic y; weights."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    n = len(clusters)
    columns = [np.ones(n), clusters % 2 + 0.1 * rng.normal(size=n), rng.normal(size=n)]
    X = np.column_stack([*columns, rng.exponential(size=n)])[:, :k]
    y = X.sum(axis=1) + rng.normal(size=len(sizes))[clusters] + rng.normal(size=n) * (1 + X[:, 1])
    return X, y, clusters, rng.uniform(0.2, 3, n)


def assert_same_covariance(actual, expected, tolerance=EXACT):
    """Compare relative to the standard errors: an entry near 0 has no digits of its own."""
    size = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        actual / np.outer(size, size),
        expected / np.outer(size, size),
        rtol=tolerance,
        atol=tolerance,
    )


class Dense:
    """Textbook matrices, n x n and all."""

    def __init__(self, X, y, w=None):
        self.X, self.n, self.k = X, *X.shape
        self.W = np.diag(np.ones(self.n) if w is None else w)
        self.M = np.linalg.inv(X.T @ self.W @ X)
        self.coef = self.M @ X.T @ self.W @ y
        self.e = y - X @ self.coef
        root = np.sqrt(self.W)
        self.h = np.diag(root @ X @ self.M @ X.T @ root)

    def hc(self, kind):
        total = np.zeros((self.k, self.k))
        for i in range(self.n):
            x, w, h = self.X[i], self.W[i, i], self.h[i]
            factor = {
                "HC0": 1,
                "HC1": self.n / (self.n - self.k),
                "HC2": 1 / (1 - h),
                "HC3": 1 / (1 - h) ** 2,
            }[kind]
            total += factor * w**2 * self.e[i] ** 2 * np.outer(x, x)
        return self.M @ total @ self.M

    def cr(self, clusters, *, corrected):
        total = np.zeros((self.k, self.k))
        labels = sorted(set(clusters))
        for g in labels:
            score = sum(
                self.W[i, i] * self.e[i] * self.X[i] for i in range(self.n) if clusters[i] == g
            )
            total += np.outer(score, score)
        G = len(labels)
        factor = G / (G - 1) * (self.n - 1) / (self.n - self.k) if corrected else 1
        return factor * self.M @ total @ self.M

    def hac(self, lags):
        score = self.X * (np.diag(self.W) * self.e)[:, None]
        total = np.zeros((self.k, self.k))
        for i in range(self.n):
            for j in range(self.n):
                total += max(0, 1 - abs(i - j) / (lags + 1)) * np.outer(score[i], score[j])
        return self.M @ total @ self.M

    def cr2(self, clusters):
        """Covariance, df and E V / Var for each coefficient, errors independent and alike."""
        R = np.eye(self.n) - self.X @ self.M @ self.X.T @ self.W  # residual maker
        B = R @ R.T
        total = np.zeros((self.k, self.k))
        p = []  # p[g][:, c]: V_c = sum_g (p_gc' y)^2
        for g in sorted(set(clusters)):
            at = np.flatnonzero(np.asarray(clusters) == g)
            values, vectors = np.linalg.eigh(B[np.ix_(at, at)])
            power = np.array([v**-0.5 if v > 1e-9 else 0.0 for v in values])
            A = vectors @ np.diag(power) @ vectors.T
            XWA = self.X[at].T @ self.W[np.ix_(at, at)] @ A
            score = XWA @ self.e[at]
            total += np.outer(score, score)
            p.append((self.M @ XWA @ R[at]).T)
        gammas = [np.array([[a[:, c] @ b[:, c] for b in p] for a in p]) for c in range(self.k)]
        df = np.array([np.trace(g) ** 2 / (g**2).sum() for g in gammas])
        true = np.diag(self.M @ self.X.T @ self.W @ self.W @ self.X @ self.M)
        return self.M @ total @ self.M, df, np.array([np.trace(g) for g in gammas]) / true
