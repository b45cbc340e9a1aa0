"""The connections on a GPU, by kernels of our own; their sources, ``*.cu``, are beside the Python that calls them.

| source | what it computes | the simple form |
|---|---|---|
| ``columns.cu`` | columns, and their adjoint with the state update | ``eqnp.ops.conv`` |
| ``pooling.cu`` | pooling with its bias and winners, and back | ``eqnp.ops.pooling`` |
| ``winograd.cu`` | Winograd's transforms with the pooling, and back with the state update | ``eqnp.ops.winograd`` |
| ``update.cu`` | the state update of a dense layer | ``PreparedNetwork.step`` |

``common.cu`` stands before each of them. ``eqnp.device`` compiles and launches them; matrix products are cuBLAS's.
"""
