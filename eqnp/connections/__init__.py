"""What couples two layers: the four maps of a connection, in every form.

Read ``contract``, which states the maps, then ``dense`` and ``conv_pool``. ``merged`` and ``winograd`` are faster forms
of a convolution, ``cuda`` has all of them by eqnp's own kernels, and ``forms`` chooses the form of a layer. ``layers``
holds the specs of layers.
"""
