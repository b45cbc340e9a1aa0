"""A run and its files: the configuration, what is built of it, checkpoints, and the run folder.

Read ``config`` and ``configfile``, then ``experiment``, ``checkpoint`` and ``runfolder``; ``changes`` and ``history`` date
what a resume changed.
"""
