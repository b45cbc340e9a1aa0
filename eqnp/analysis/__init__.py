"""Whether the estimate is the gradient, how biased it is, and what it costs.

Read ``steady`` and ``theorem`` (bias, step by step against BPTT), then ``quality``, ``cures`` and ``verdict`` (what is
wrong and what helps), ``settling`` (how many steps), ``precision`` (what rounding does), ``diagnostics``,
``trajectories``, ``measuring``, ``plots``.
"""
