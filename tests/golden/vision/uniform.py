"""Weights and images that Python and C make alike, so that no file need hold them: element i of the array `name` is

    low + (high - low) * (splitmix64(fnv1a32(name) << 32 | i) >> 40) / 2^24      in double, rounded once to single

The same in C: tests/vision/uniform.h.
"""
import numpy as np


def fnv1a32(name):
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 % 2**32
    return h


def uniform(name, low, high, shape):
    with np.errstate(over="ignore"):
        z = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64) | np.uint64(fnv1a32(name) << 32)
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return (low + (high - low) * u).astype(np.float32).reshape(shape)


def checksums(values):
    """What is kept of a layer: mean, mean magnitude, root of the mean square, and the mean of the products with a fixed vector."""
    x = np.asarray(values, np.float64).ravel()
    fixed = uniform("projection", -1, 1, x.shape).astype(np.float64)
    return [x.mean(), np.abs(x).mean(), np.sqrt((x * x).mean()), (x * fixed).mean()]
