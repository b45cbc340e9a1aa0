"""A run and its files: the configuration, what is built from it, checkpoints, and the run folder.

Order of reading: ``config``, ``reading``, ``overrides`` and ``configfile``, then ``experiment``, ``checkpoint`` and
``runfolder``. ``changes`` and ``history`` record what a resume changed. ``storage``, ``locks`` and ``environment`` are
used by them; ``keys`` and ``spelling`` find out what a misspelt word means.
"""
