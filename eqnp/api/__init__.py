"""Runs and the functions that ``import eqnp`` offers: what the commands and a user's own program both call.

Read ``functions`` and ``run``, then the way of a run: ``session`` (a configuration with data and learner), ``training``
(the loop), ``resuming``, ``results``, ``signals``.
"""
