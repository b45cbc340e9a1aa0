"""Equilibrium Propagation in one file, in NumPy alone. ``python -m eqnp.from_scratch`` trains on 5,000 digits.

THE NETWORK. An image x = s^0 stands still. Above it are layers of neurons with states s^1 to s^L in [0, 1]. Each layer
drives the next through a convolution, w_n * s^n + b_n, and a pooling P, the maximum over windows of 2x2 places. The
primitive function Phi is large and the energy E is low where layers agree with what drives them (. scalar product):

    Phi(x, s, theta) = sum over n of  s^{n+1} . P(w_n * s^n + b_n)            E = |s|^2 - Phi

THE FREE PHASE. Every layer steps to where dE/ds = 2 s - dPhi/ds would be zero, kept in [0, 1], until all layers rest:

    s <- sigma(dPhi/ds),      sigma(u) = clip(u / 2, 0, 1)                    from s = 0
    dPhi/ds^n = P(w_{n-1} * s^{n-1} + b_{n-1})  +  w~_n * P^{-1}(s^{n+1})     drive from below, feedback from above

P^{-1} puts each value at the place where its window had the maximum. w~ * is the transpose of w *.

THE NUDGED PHASE. A softmax outside the system reads the top layer, y^ = softmax(s^L w_out + b_out), and its loss is the
cross-entropy l = -log y^[label]. With beta l added to the energy the top layer moves, so that y^ comes a little nearer
to the one-hot target y if beta > 0, and goes away from it if beta < 0. The other layers follow by the feedback:

    s <- sigma(dPhi/ds - beta dl/ds),      dl/ds^L = (y^ - y) w_out^T         from the free steady state

LEARNING. Let s_beta be the steady state under beta, Phi_beta = Phi - beta l, and G = |s_beta|^2 - Phi_beta(s_beta).
At s_beta the derivative by s is zero, or s is at a bound. So G does not notice small changes of s_beta, which leaves
dG/dbeta = l(s_beta) and dG/dtheta = -dPhi_beta/dtheta(s_beta). The order of two derivatives is free, so at beta = 0

    d l(s_0)/dtheta = d/dtheta dG/dbeta = d/dbeta dG/dtheta
              ~ -1/(2 beta) [dPhi_beta/dtheta(s_beta) - dPhi_{-beta}/dtheta(s_{-beta})]      the symmetric estimate

There is no backward pass. A weight needs only the states of the two layers that it joins: dPhi/dw_n is s^n correlated
with g = P^{-1}(s^{n+1}), dPhi/db_n is the sum of g, and dl/dw_out is (s^L)^T (y^ - y).

Letters: N images; (H, W) size and C channels of s^n; K channels of s^{n+1}; (KH, KW) kernel; D zeros around s;
(U, V) = (H + 2D - KH + 1, W + 2D - KW + 1) places of the convolution, rounded down to even: the rest fills no window.

Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024: the method. Ernoult et al. 2019, arXiv:1905.13633: Phi.
Laborieux et al. 2021, arXiv:2006.03824: the symmetric estimate and the softmax outside the system.
"""

from typing import Any

import numpy as np

from eqnp.data import load

# images 28 x 28 -> convolution 24 x 24 -> pooling 12 x 12 -> convolution 8 x 8 -> pooling 4 x 4 -> 10 classes
SHAPES = {"forward.0": (5, 5, 1, 8), "forward.1": (5, 5, 8, 16), "readout": (4 * 4 * 16, 10)}  # of the weights
D = 0  # rows and columns of zeros on each side of the images and of every layer
PAD = (0, 0), (D, D), (D, D), (0, 0)  # (N, H, W, C) -> (N, H + 2D, W + 2D, C)
T1, T2, BETA = 15, 6, 0.5  # steps of the free phase, steps of a nudged phase, strength of the nudge
EPOCHS, BATCH, ETA, MU = 4, 50, 0.1, 0.9  # the learning rate eta falls from ETA to ETA / EPOCHS; momentum MU
Array = Any  # a NumPy array, float64
States = list[Array]  # s^0 .. s^L, each (N, H, W, C)
Theta = dict[str, Array]  # forward.n.weight (KH, KW, C, K), forward.n.bias (K,), readout.weight, readout.bias


# ---- the convolution, its transpose in s and its derivative by w: three sums over the same parts of s
def parts(s: Array, w: Array) -> list[tuple[int, int, Array]]:
    """Return for every i, j the part of a padded s that w[i, j] multiplies, a view (N, U, V, C)."""
    U, V = (s.shape[1] - w.shape[0] + 1) // 2 * 2, (s.shape[2] - w.shape[1] + 1) // 2 * 2
    return [(i, j, s[:, i : i + U, j : j + V]) for i, j in np.ndindex(w.shape[:2])]


def conv(s: Array, w: Array) -> Array:
    """Return w * s: (N, H, W, C) -> (N, U, V, K)."""
    return sum(part @ w[i, j] for i, j, part in parts(np.pad(s, PAD), w))


def conv_transpose(g: Array, w: Array, like: Array) -> Array:
    """Return w~ * g in the shape of ``like``: (N, U, V, K) -> (N, H, W, C)."""
    s = np.pad(np.zeros_like(like), PAD)
    for i, j, part in parts(s, w):
        part += g @ w[i, j].T
    return s[:, D : s.shape[1] - D, D : s.shape[2] - D]


def correlate(s: Array, g: Array, w: Array) -> Array:
    """Return the derivative of g . (w * s) by w, summed over images: (N, H, W, C), (N, U, V, K) -> (KH, KW, C, K)."""
    dw = np.empty_like(w)
    for i, j, part in parts(np.pad(s, PAD), w):
        dw[i, j] = (part.swapaxes(2, 3) @ g).sum(axis=(0, 1))  # (N, U, C, V) @ (N, U, V, K)
    return dw


# ---- the pooling and its inverse
def pool(u: Array, margin: Array) -> tuple[Array, Array]:
    """Return P(u), the maximum of every window, and which of its places 0 1 / 2 3 has it: both (N, U / 2, V / 2, K)."""
    # Of equal places the first wins. Rounding can make equal sums differ: a later place must win by more than margin.
    places = [u[:, i::2, j::2] for i, j in np.ndindex(2, 2)]
    p = np.maximum.reduce(places)
    return p, np.argmax([place >= p - margin for place in places], axis=0)  # the first that is True


def unpool(p: Array, winner: Array) -> Array:
    """Return P^{-1}(p), each value at its window's winner, zeros elsewhere: (N, U / 2, V / 2, K) -> (N, U, V, K)."""
    u = np.zeros((len(p), 2 * p.shape[1], 2 * p.shape[2], p.shape[3]))
    for k, (i, j) in enumerate(np.ndindex(2, 2)):
        u[:, i::2, j::2] = p * (winner == k)
    return u


# ---- the energy and its derivatives
def drive(theta: Theta, n: int, s: States) -> tuple[Array, Array]:
    """Return P(w_n * s^n + b_n), which drives s^{n+1}, and the winners of its windows."""
    w, b = theta[f"forward.{n}.weight"], theta[f"forward.{n}.bias"]
    bound = abs(s[n]).max(axis=(1, 2, 3), keepdims=True) * abs(w).sum(axis=(0, 1, 2)) + abs(b)  # of |w * s + b|
    return pool(conv(s[n], w) + b, margin=1e-12 * bound)  # float64 rounds w * s + b by far less than this


def energy(theta: Theta, s: States) -> Array:
    """Return E = |s|^2 - Phi of every image (N,)."""
    phi = sum((s[n + 1] * drive(theta, n, s)[0]).sum(axis=(1, 2, 3)) for n in range(len(s) - 1))
    return sum((layer**2).sum(axis=(1, 2, 3)) for layer in s[1:]) - phi


def dphi_ds(theta: Theta, s: States, input_drive: Array) -> States:
    """Return dPhi/ds^1 .. dPhi/ds^L: connection n drives s^{n+1} and feeds back to s^n."""
    dphi = [input_drive]
    for n in range(1, len(s) - 1):
        d, winner = drive(theta, n, s)
        feedback = conv_transpose(unpool(s[n + 1], winner), theta[f"forward.{n}.weight"], like=s[n])
        dphi = [*dphi[:-1], dphi[-1] + feedback, d]
    return dphi


def readout(theta: Theta, s: States) -> Array:
    """Return y^ = softmax(s^L w_out + b_out): (N, H, W, C) -> (N, classes)."""
    o = s[-1].reshape(len(s[-1]), -1) @ theta["readout.weight"] + theta["readout.bias"]
    e = np.exp(o - o.max(axis=1, keepdims=True))  # the shift cancels; it keeps exp from overflow
    return e / e.sum(axis=1, keepdims=True)


def dphi_dtheta(theta: Theta, s: States, beta: float, y: Array) -> Theta:
    """Return dPhi_beta/dtheta, summed over images. Phi_beta = Phi - beta l, and the readout stands in l alone."""
    dphi, dphi_do = {}, -beta * (readout(theta, s) - y)
    for n in range(len(s) - 1):
        g = unpool(s[n + 1], drive(theta, n, s)[1])
        dphi[f"forward.{n}.weight"] = correlate(s[n], g, theta[f"forward.{n}.weight"])
        dphi[f"forward.{n}.bias"] = g.sum(axis=(0, 1, 2))
    return dphi | {"readout.weight": s[-1].reshape(len(y), -1).T @ dphi_do, "readout.bias": dphi_do.sum(axis=0)}


# ---- Equilibrium Propagation
def relax(theta: Theta, s: States, steps: int, beta: float = 0.0, y: Array | None = None) -> States:
    """Return s after steps of s <- sigma(dPhi/ds - beta dl/ds), all layers at once. Without beta the phase is free."""
    input_drive, _ = drive(theta, 0, s)  # x stands still, and so does what it drives
    for _ in range(steps):
        u = dphi_ds(theta, s, input_drive)
        if beta:
            dl_ds = (readout(theta, s) - y) @ theta["readout.weight"].T
            u[-1] = u[-1] - beta * dl_ds.reshape(u[-1].shape)
        s = [s[0], *(np.clip(layer / 2, 0, 1) for layer in u)]  # sigma
    return s


def zero_states(theta: Theta, x: Array) -> States:
    """Return x and zeros for all layers above it."""
    s = [x]
    for n in range(len(theta) // 2 - 1):
        s.append(np.zeros_like(drive(theta, n, s)[0]))
    return s


def estimate(theta: Theta, x: Array, y: Array) -> Theta:
    """Return the symmetric estimate of dl/dtheta, the mean over images."""
    free = relax(theta, zero_states(theta, x), T1)
    plus = dphi_dtheta(theta, relax(theta, free, T2, BETA, y), BETA, y)
    minus = dphi_dtheta(theta, relax(theta, free, T2, -BETA, y), -BETA, y)
    return {name: -(plus[name] - minus[name]) / (2 * BETA) / len(x) for name in theta}


def sgd(theta: Theta, velocity: Theta, gradient: Theta, eta: float) -> tuple[Theta, Theta]:
    """Return theta - eta v and v, with v <- mu v + gradient."""
    v = {name: MU * velocity.get(name, 0.0) + gradient[name] for name in theta}
    return {name: theta[name] - eta * v[name] for name in theta}, v


def main() -> None:
    """Train on the digits and print what happens."""
    data, rng = load("mnist-small"), np.random.default_rng(0)
    x, x_test, y = data.train_images / 255, data.test_images / 255, np.eye(10)[data.train_labels]
    theta: Theta = {}
    velocity: Theta = {}
    for name, shape in SHAPES.items():
        bound = 1 / np.sqrt(np.prod(shape[:-1]))  # the more inputs a neuron has, the smaller its weights
        theta[f"{name}.weight"] = rng.uniform(-bound, bound, shape)
        theta[f"{name}.bias"] = rng.uniform(-bound, bound, shape[-1])
    for steps in (0, 1, 2, 5, T1):
        s = relax(theta, zero_states(theta, x[:BATCH]), steps)
        print(f"energy after {steps:2} steps of a free phase: {energy(theta, s).mean():8.3f}")
    for epoch in range(EPOCHS):
        for batch in rng.permutation(len(x)).reshape(-1, BATCH):
            gradient = estimate(theta, x[batch], y[batch])
            theta, velocity = sgd(theta, velocity, gradient, ETA * (1 - epoch / EPOCHS))
        wrong = readout(theta, relax(theta, zero_states(theta, x_test), T1)).argmax(axis=1) != data.test_labels
        print(f"epoch {epoch + 1} of {EPOCHS}: test error {100 * wrong.mean():.1f} %", flush=True)
    print(f"final test error: {100 * wrong.mean():.1f} % of {len(wrong):,} images")


if __name__ == "__main__":
    main()
