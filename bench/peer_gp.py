"""Fits scikit-learn's Gaussian process on a table that bench_gp wrote and predicts; for each line that it reads it prints
the seconds of both:
  python3 bench/peer_gp.py FOLDER TARGETS
reads FOLDER/bench_gp_{x,y,new}.npy and writes the means of the first TARGETS targets to FOLDER/bench_gp_mean.npy. The
seconds are those of TARGETS targets: the caller scales them to all. The first turn fits to the end. Later ones stop after
TURN evaluations of a likelihood, and their seconds are scaled to as many as the first one took."""
import sys, time, warnings
import numpy as np
import scipy.optimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

TURN = 5


class Enough(Exception):
    pass


class Optimizer:
    """As scikit-learn calls its own (L-BFGS-B); counts evaluations and stops after `most`."""
    def __init__(self, most):
        self.most, self.evaluations, self.last = most, 0, None

    def __call__(self, objective, start, bounds):
        here = 0

        def counted(theta):
            nonlocal here
            if here == self.most:
                raise Enough
            here += 1
            self.evaluations += 1
            self.last = theta.copy(), objective(theta)
            return self.last[1]
        try:
            found = scipy.optimize.minimize(counted, start, method="L-BFGS-B", jac=True, bounds=bounds)
        except Enough:
            return self.last[0], self.last[1][0]
        return found.x, found.fun


folder, targets = sys.argv[1], int(sys.argv[2])
x, y, new = (np.load(f"{folder}/bench_gp_{name}.npy") for name in ("x", "y", "new"))
warnings.simplefilter("ignore")             # a length scale at its bound is no matter here
all_evaluations = 0
for _ in sys.stdin:
    optimizer = Optimizer(TURN if all_evaluations else np.inf)
    start = time.perf_counter()
    models = [GaussianProcessRegressor(ConstantKernel() * Matern(np.ones(x.shape[1]), nu=2.5) + WhiteKernel(),
                                       optimizer=optimizer, normalize_y=True) for _ in range(targets)]
    for j, model in enumerate(models):
        model.fit(x, y[:, j])
    fitted = time.perf_counter()
    means = [model.predict(new, return_std=True)[0] for model in models]
    predicted = time.perf_counter()
    if not all_evaluations:
        all_evaluations = optimizer.evaluations
        np.save(f"{folder}/bench_gp_mean.npy", np.stack(means, 1))
    print((fitted - start) * all_evaluations / optimizer.evaluations, predicted - fitted, flush=True)
