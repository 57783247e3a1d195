"""Small training sets with a known truth."""

import numpy as np

from ml_assets.training.matrix import Matrix

NAMES = ("strong", "weak", "noise", "carrier")


def matrix(seed=0, n=1500):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 4))
    x[:, 3] = random.integers(0, 6, n)
    x[random.random(n) < 0.05, 1] = np.nan
    logit = 1.5 * x[:, 0] + 0.4 * np.nan_to_num(x[:, 1]) + np.array([-1, 1, -1, 1, 0, 0])[x[:, 3].astype(int)] - 1
    return Matrix(x, (random.random(n) < 1 / (1 + np.exp(-logit))).astype(float), NAMES, ("carrier",))
