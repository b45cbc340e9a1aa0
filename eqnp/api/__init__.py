"""Runs, and the functions that ``import eqnp`` offers. The commands and Python programs both call what is here.

Read ``functions`` and ``run`` first. A run is made by ``session`` (a configuration with its data and learner) and
``training`` (the loop), with ``resuming``, ``results``, ``signals`` and ``report``.

What is done with a finished run: ``predicting``, ``plotting``, ``showing``, ``exchange`` (with ``card``), ``survey``
(with ``poster``, ``survey_text``, ``survey_page``).
"""
