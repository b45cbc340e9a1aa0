"""The CUDA sources of eqnp's own kernels. ``eqnp.connections.cuda`` and ``cuda_winograd`` call them.

Read ``common.cu`` first, which precedes each of the others when it is compiled, then the rest in this order:

| source | what it computes | the simple form |
|---|---|---|
| ``update.cu`` | the state update of a layer | ``eqnp.ops.moves`` |
| ``columns.cu`` | columns, and their adjoint with the state update | ``eqnp.ops.conv`` |
| ``pooling.cu`` | pooling with bias and winners, and the adjoint | ``eqnp.ops.pooling`` |
| ``ties.cu`` | what the margins of ties need of inputs and of weights | ``eqnp.ops.ties`` |
| ``winograd.cu`` | Winograd transforms with pooling, and the adjoint with the state update | ``eqnp.ops.winograd`` |

``eqnp.backends.device`` compiles and launches the kernels. cuBLAS computes the matrix products between them.
"""
