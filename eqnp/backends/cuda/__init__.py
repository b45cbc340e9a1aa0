"""The CUDA sources of eqnp's own kernels; ``eqnp.connections.cuda`` calls them.

| source | what it computes | the simple form |
|---|---|---|
| ``columns.cu`` | columns, and their adjoint with the state update | ``eqnp.ops.conv`` |
| ``pooling.cu`` | pooling with its bias and winners, and back | ``eqnp.ops.pooling`` |
| ``ties.cu`` | the norms of inputs that a tie's margin needs | ``eqnp.ops.ties`` |
| ``winograd.cu`` | Winograd's transforms with the pooling, and back with the state update | ``eqnp.ops.winograd`` |
| ``update.cu`` | the state update of a dense layer | ``PreparedNetwork.step`` |

``common.cu`` stands before each of them. ``eqnp.backends.device`` compiles and launches them; matrix products are
cuBLAS's.
"""
