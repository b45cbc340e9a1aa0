"""How arrays are computed: CuPy and CUDA, buffers, blocks, shards and matrix products.

Read in this order:

1. ``backend``: NumPy or CuPy, the module of an array, copies to and from the host.
2. ``workspace``: named buffers, so that the steps of a phase allocate nothing.
3. ``blocks``: parts of a batch that fit into the cache of a CPU core.
4. ``sharding``: parts of a batch for several threads, and the sum of their gradients.
5. ``products`` and ``mkl``: stacks of matrix products on a CPU.
6. ``device`` and ``cuda``: CUDA kernels and cuBLAS on a GPU.
7. ``limits``: how many cores and how much memory this process may use.
"""
