"""Measurements: how close an estimate is to the gradient, how biased it is, and what it costs.

Order of reading: ``steady`` and ``theorem`` (EP against BPTT step by step, bias against beta); ``quality``, ``cures``
and ``verdict`` (what is wrong and what helps); ``settling`` (how many steps are needed); ``precision`` (rounding);
``diagnostics`` (norms, angles, updates per step); ``trajectories``, ``measuring`` (time and memory); ``plots``,
``picture`` and ``sheet`` (figures). Of finished runs: ``panels`` (figures), ``watching``, ``energy`` and ``scenes``
(how a network settles).
"""
