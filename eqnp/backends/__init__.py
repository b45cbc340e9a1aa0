"""Where arrays are computed: the one door to CuPy, the device and its CUDA sources, buffers, shards, products.

Read ``backend``, then ``workspace``, ``blocks`` and ``sharding``. ``products`` and ``mkl`` multiply on a CPU,
``device`` and ``cuda`` compute on a GPU, ``limits`` knows the machine's memory and cores.
"""
