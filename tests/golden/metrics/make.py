"""Vectors, and what the reference programs make of them; read by tests/metrics.

Provenance: random numbers made here from a fixed seed, no other source. pytorch-fid 0.3 and torch-fidelity 0.4 are called as
they are. ADM's evaluator (guided-diffusion, evaluations/evaluator.py) needs TensorFlow 1, and dgm-eval (metrics/prdc.py)
is no package: their formulas are written out below in numpy, in double.
Rerun: pip install numpy scipy torch pytorch-fid torch-fidelity && python3 tests/golden/metrics/make.py
"""
import os
import warnings

import numpy as np
import scipy.stats
import sklearn.metrics
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

HERE = os.path.dirname(os.path.abspath(__file__))


# ---- Frechet ---------------------------------------------------------------------------------------------------------


def frechet(name, a, b, out):
    """Statistics by numpy, the distance by both programs where both give one."""
    out[f"{name}_a"], out[f"{name}_b"] = a, b
    stats = [{"mu": np.mean(x, axis=0, dtype=np.float64), "sigma": np.cov(x, rowvar=False)} for x in (a, b)]
    out[f"{name}_mean"], out[f"{name}_covariance"] = stats[0]["mu"], stats[0]["sigma"]
    distances = [fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]]
    try:
        distances.append(float(calculate_frechet_distance(
            stats[0]["mu"], stats[0]["sigma"], stats[1]["mu"], stats[1]["sigma"])))
    except ValueError as error:  # rank-deficient covariances can have no real square root there
        print(f"{name}: pytorch-fid fails: {error}")
    print(f"{name}: {distances}")
    out[f"{name}_distances"] = np.array(distances)


def features(rng, n, d, scale=1.0, offset=0.0):
    mix = rng.standard_normal((d, d)) / np.sqrt(d)
    return (np.maximum(rng.standard_normal((n, d)) @ mix + 0.3, 0) * scale + offset).astype(np.float32)


# ---- Inception Score, probabilities ----------------------------------------------------------------------------------


def softmax(logits):
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def adm_inception_score(logits, split_size):
    preds = softmax(logits)
    scores = []
    for i in range(0, len(preds), split_size):
        part = preds[i:i + split_size]
        kl = part * (np.log(part) - np.log(np.expand_dims(np.mean(part, 0), 0)))
        scores.append(np.exp(np.mean(np.sum(kl, 1))))
    return float(np.mean(scores))


# ---- precision and recall --------------------------------------------------------------------------------------------


def squared(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)


def adm_precision_recall(reference, samples, k):
    """A row's own distance, 0, stands first in its sorted distances; radii are index k of them; <=."""
    radii = [np.sort(squared(x, x), axis=1)[:, k] for x in (reference, samples)]
    cross = squared(reference, samples)
    return [(cross <= radii[0][:, None]).any(axis=0).mean(), (cross <= radii[1][None, :]).any(axis=1).mean()]


def prdc_precision_recall(reference, samples, k):
    def distances(x, y):
        return np.sqrt(squared(x, y))

    def radii(x):
        return np.partition(distances(x, x), k, axis=1)[:, :k + 1].max(axis=1)

    cross = distances(reference, samples)
    return [(cross < radii(reference)[:, None]).any(axis=0).mean(), (cross < radii(samples)[None, :]).any(axis=1).mean()]


def precision_recall(name, reference, samples, out):
    out[f"{name}_reference"], out[f"{name}_samples"] = reference, samples
    out[f"{name}_adm"] = np.array(adm_precision_recall(reference, samples, 3))
    out[f"{name}_dgm_eval"] = np.array(prdc_precision_recall(reference, samples, 5))
    # Its first argument is the generated set. Distances of matrices of integers are exact in it as well.
    theirs = calculate_precision_recall_full(torch.from_numpy(samples).double(), torch.from_numpy(reference).double(), 3)
    out[f"{name}_torch_fidelity"] = np.array(theirs)
    print(name, out[f"{name}_adm"], out[f"{name}_torch_fidelity"], out[f"{name}_dgm_eval"])


def main():
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(2026)
    out = {}
    frechet("full", features(rng, 700, 24), features(rng, 300, 24, 1.3, 0.1), out)
    frechet("few", features(rng, 15, 24), features(rng, 20, 24), out)
    base = rng.standard_normal((12, 12))
    shifted = [((rng.standard_normal((600, 12)) @ base) * 0.01 + 1000).astype(np.float32) for _ in range(2)]
    frechet("shifted", *shifted, out)
    np.savez_compressed(os.path.join(HERE, "frechet.npz"), **out)

    logits = (rng.standard_normal((1203, 17)) * 2 + 3 * np.eye(17)[rng.integers(0, 17, 1203)]).astype(np.float32)
    p = softmax(logits)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    np.savez_compressed(
        os.path.join(HERE, "probability.npz"), logits=logits,
        adm=np.array([adm_inception_score(logits, 500), adm_inception_score(logits, 5000)]),
        torch_fidelity=np.array([theirs["inception_score_mean"], theirs["inception_score_std"]]),
        statistics=np.array([scipy.stats.entropy(p, axis=1).mean(), np.var(p, axis=1).mean(),
                             scipy.stats.kurtosis(p, axis=1).mean()]))

    out = {}
    reference = features(rng, 1100, 12)
    samples = np.concatenate([features(rng, 250, 12, 0.9), reference[:30] + np.float32(0.01)])
    precision_recall("smooth", reference, samples, out)
    # Few levels: ties and repeated vectors everywhere, which `<` and `<=` tell apart, and exact in any arithmetic.
    precision_recall("ties", rng.integers(0, 3, (150, 6)).astype(np.float32),
                     rng.integers(0, 4, (130, 6)).astype(np.float32), out)
    np.savez_compressed(os.path.join(HERE, "precision_recall.npz"), **out)

    # Files as pytorch-fid (np.savez_compressed of float64) and as ADM's batches have them (float32 mean, images too).
    mean, covariance = rng.standard_normal(5), np.cov(rng.standard_normal((40, 5)), rowvar=False)
    np.savez_compressed(os.path.join(HERE, "pytorch_fid.npz"), mu=mean, sigma=covariance)
    np.savez(os.path.join(HERE, "adm.npz"), arr_0=np.zeros((2, 4, 4, 3), np.uint8), mu=mean.astype(np.float32),
             sigma=covariance, mu_s=mean[:3].astype(np.float32), sigma_s=covariance[:3, :3])
    for module in (np, scipy, torch):
        print(module.__name__, module.__version__)


if __name__ == "__main__":
    main()
