"""Pure functions on arrays, in adjoint pairs: each function of a pair gives the derivative of the other.

| function | its adjoint |
|---|---|
| ``dense(s, w)`` | ``dense_transpose(v, w)`` in s, ``dense_weight_gradient(s, v)`` in w |
| ``conv2d(x, w)`` | ``conv2d_transpose(g, w)`` in x, ``conv2d_weight_gradient(x, g)`` in w |
| ``columns(x)`` | ``gather_columns(c)`` |
| ``max_unpool(p, winner)`` | ``pick_winners(u, winner)`` |
| ``average_pool(u)`` | ``average_unpool(p)`` |
| ``winograd_outputs(x, kernel)`` | ``winograd_inputs(y, kernel)`` |
| ``strided_outputs(x, kernel)`` | ``strided_inputs(y, kernel)`` |
| ``winograd_unpool(v, winner)`` | ``winograd_pick(y, winner)`` |

Read in this order:

1. ``dense``: the simplest pair, a matrix product and its two adjoints.
2. ``conv``: the convolution as one matrix product, and its two adjoints.
3. ``pooling``: 2x2 maximum and average, the places of the maxima, and the inverse P^{-1}.
4. ``ties``: which values of a pooling window count as equal.
5. ``activations`` and ``moves``: sigma, and the update of a state with it.
6. ``toom_cook``, ``tiles`` and ``winograd``: a convolution and the pooling after it with fewer multiplications.
7. ``strided``: the same for a convolution with a stride.
"""

from eqnp.ops.activations import ACTIVATIONS, Activation
from eqnp.ops.conv import (
    columns,
    conv2d,
    conv2d_transpose,
    conv2d_weight_gradient,
    gather_columns,
    output_size,
)
from eqnp.ops.dense import dense, dense_transpose, dense_weight_gradient, flatten
from eqnp.ops.pooling import average_pool, average_unpool, max_pool, max_unpool, pick_winners
from eqnp.ops.strided import StridedKernel, strided_inputs, strided_outputs, transform_strided_weights
from eqnp.ops.ties import Axis, Ties, multiple_of_eps, prepare_ties, reach, running_sums, tie_margin
from eqnp.ops.tiles import Tiling, from_tiles, to_tiles
from eqnp.ops.toom_cook import toom_cook
from eqnp.ops.winograd import (
    Kernel,
    tile_transforms,
    transform_weights,
    weight_transform,
    winograd_inputs,
    winograd_max_pool,
    winograd_outputs,
    winograd_pick,
    winograd_unpool,
    winograd_weight_gradient,
    winograd_weight_products,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Axis",
    "Kernel",
    "StridedKernel",
    "Ties",
    "Tiling",
    "average_pool",
    "average_unpool",
    "columns",
    "conv2d",
    "conv2d_transpose",
    "conv2d_weight_gradient",
    "dense",
    "dense_transpose",
    "dense_weight_gradient",
    "flatten",
    "from_tiles",
    "gather_columns",
    "max_pool",
    "max_unpool",
    "multiple_of_eps",
    "output_size",
    "pick_winners",
    "prepare_ties",
    "reach",
    "running_sums",
    "strided_inputs",
    "strided_outputs",
    "tie_margin",
    "tile_transforms",
    "to_tiles",
    "toom_cook",
    "transform_strided_weights",
    "transform_weights",
    "weight_transform",
    "winograd_inputs",
    "winograd_max_pool",
    "winograd_outputs",
    "winograd_pick",
    "winograd_unpool",
    "winograd_weight_gradient",
    "winograd_weight_products",
]
