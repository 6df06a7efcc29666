"""Fits scikit-learn's Gaussian process on a table that bench_gp wrote and predicts; for each line that it reads it prints
the seconds of both:
  python3 bench/peer_gp.py FOLDER TARGETS
reads FOLDER/bench_gp_{x,y,new}.npy and writes the means of the first TARGETS targets to FOLDER/bench_gp_mean.npy. The
seconds are those of TARGETS targets: the caller scales them to all."""
import sys, time, warnings
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

folder, targets = sys.argv[1], int(sys.argv[2])
x, y, new = (np.load(f"{folder}/bench_gp_{name}.npy") for name in ("x", "y", "new"))
warnings.simplefilter("ignore")             # a length scale at its bound is no matter here
for _ in sys.stdin:
    start = time.perf_counter()
    models = [GaussianProcessRegressor(ConstantKernel() * Matern(np.ones(x.shape[1]), nu=2.5) + WhiteKernel(),
                                       normalize_y=True, n_restarts_optimizer=0) for _ in range(targets)]
    for j, model in enumerate(models):
        model.fit(x, y[:, j])
    fitted = time.perf_counter()
    means = [model.predict(new, return_std=True)[0] for model in models]
    print(fitted - start, time.perf_counter() - fitted, flush=True)
    np.save(f"{folder}/bench_gp_mean.npy", np.stack(means, 1))
