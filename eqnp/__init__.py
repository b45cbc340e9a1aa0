"""Equilibrium Propagation by hand, on NumPy and CuPy.

Nothing is imported here, so that ``import eqnp`` and ``eqnp --help`` are quick. Start reading at
``eqnp/networks.py``; the README gives the order of the rest.
"""

__version__ = "0.1.0"
