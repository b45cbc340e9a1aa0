"""Many runs at once: a file describes them, each is a process and a run folder of its own.

Read in this order:

1. ``file`` and ``names``: what a sweep's file says, as a list of entries, and what they are called.
2. ``checking``: everything that can be found wrong before the first run begins.
3. ``folder``: what is known of each entry: not begun, unfinished, finished or failed.
4. ``child``: one run as a child process. ``here``: several of them on this machine. ``ranks``: on the ranks of MPI.
5. ``watch``: what a run's end means for the sweep, and the table of all.
"""
