"""All of Forebay on one machine: what `forebay up` starts, watches and stops.

    forebay up ──▶ server       an embedded Valkey, or none where a Redis is given
               ──▶ background   Celery worker and beat
               ──▶ worker:NAME  one for each model, or as many as it needs
               ──▶ gateway      the last to start mattering, the first to stop
               ──▶ guard        outlives `forebay up` just long enough to stop the rest

    children   what is kept running, and in which order it stops
    checks     is this port free, is that Redis within reach
    doctor     what is missing on this machine, and how to get it
    home       one `forebay up` at a time in a home folder
    guard      ends the children of a supervisor that was killed
    processes  start, restart, drain
    server     finding and configuring the embedded server
    terminal   Ctrl-C under make
    up         puts it all together
    workers    how many there are of each

The supervisor imports neither models nor Celery: every part is a process of its own, run by the
same verbs that run it on its own machine in a larger installation.
"""
