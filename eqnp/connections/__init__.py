"""Connections: what couples two neighbouring layers, the four maps of Phi, in every form.

Read in this order:

1. ``layers``: the specs of layers.
2. ``contract``: the four maps that every connection has.
3. ``dense``: s w + b, the shortest connection.
4. ``conv_pool``: P(w * s) + b, first convolved and then pooled.
5. ``merged`` and ``winograd``: faster forms of ``conv_pool``.
6. ``kernels``, ``cuda`` and ``cuda_winograd``: all connections by eqnp's own CUDA kernels.
7. ``forms``: the choice of a form for a layer.
"""
