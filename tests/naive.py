"""The oracle: every operation as loops, straight from its index formula. Slow, and short enough to be read."""

from __future__ import annotations

import itertools

import numpy as np


def conv2d(x, w, stride, padding):
    """y[n, p, q, k] = sum over i, j, c of x[n, p S + i - D, q S + j - D, c] w[i, j, c, k], x zero outside."""
    (n, h, wd, _), (kh, kw, _, k) = x.shape, w.shape
    p, q = (h + 2 * padding - kh) // stride + 1, (wd + 2 * padding - kw) // stride + 1
    y = np.zeros((n, p, q, k), np.result_type(x, w))
    for a, b, i, j in itertools.product(range(p), range(q), range(kh), range(kw)):
        row, col = a * stride + i - padding, b * stride + j - padding
        if 0 <= row < h and 0 <= col < wd:
            y[:, a, b] += x[:, row, col] @ w[i, j]
    return y


def max_pool(u):
    """p = the maximum of each window u[2a:2a+2, 2b:2b+2]; winner = its place in row-major order, the first on a tie."""
    n, h, w, c = u.shape
    p, winner = np.zeros((n, h // 2, w // 2, c)), np.zeros((n, h // 2, w // 2, c), np.uint8)
    for index in np.ndindex(p.shape):
        s, a, b, ch = index
        values = [u[s, 2 * a + i, 2 * b + j, ch] for i in range(2) for j in range(2)]
        winner[index] = values.index(max(values))
        p[index] = max(values)
    return p, winner


def max_unpool(p, winner, size):
    """u is zero but for u[2a+i, 2b+j] = p[a, b] at winner[a, b] = 2i + j."""
    u = np.zeros((p.shape[0], *size, p.shape[3]))
    for index in np.ndindex(p.shape):
        s, a, b, ch = index
        i, j = divmod(int(winner[index]), 2)
        u[s, 2 * a + i, 2 * b + j, ch] = p[index]
    return u


def average_pool(u):
    """p[a, b] = (u[2a, 2b] + u[2a, 2b+1] + u[2a+1, 2b] + u[2a+1, 2b+1]) / 4."""
    n, h, w, c = u.shape
    p = np.zeros((n, h // 2, w // 2, c), u.dtype)
    for index in np.ndindex(p.shape):
        s, a, b, ch = index
        p[index] = u[s, 2 * a : 2 * a + 2, 2 * b : 2 * b + 2, ch].sum() / 4
    return p


def primitive_function(connections, x, states):
    """Phi = sum of s^j . d(s^i), per sample; connections: (i, j, "dense", w, b) or (i, j, "conv", w, b, S, D, pool)."""
    layers, total = (x, *states), np.zeros(len(x), np.result_type(x, *states))
    for lower, upper, kind, w, b, *rest in connections:
        below, s = layers[lower], layers[upper]
        if kind == "dense":
            drive = (below.reshape(len(x), -1) @ w).reshape(s.shape) + b
        else:
            stride, padding, pool = rest
            drive = conv2d(below, w, stride, padding) + b
            drive = {"max": lambda u: max_pool(u)[0], "average": average_pool, "none": lambda u: u}[pool](drive)
        total += (s * drive).reshape(len(x), -1).sum(axis=1)
    return total


def adam(theta, gradients, rate, decay, beta1, beta2, epsilon):
    """One number through several steps of Adam."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g + decay * theta
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        theta = theta - rate * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)) ** 0.5 + epsilon)
    return theta


def sgd(theta, gradients, rate, decay, momentum):
    """One number through several steps of SGD."""
    v = 0.0
    for g in gradients:
        v = momentum * v + g + decay * theta
        theta = theta - rate * v
    return theta


def nesterov(theta, gradients, rate, decay, momentum):
    """One number through several steps of SGD with Nesterov's momentum."""
    v = 0.0
    for g in gradients:
        g = g + decay * theta
        v = momentum * v + g
        theta = theta - rate * (g + momentum * v)
    return theta
