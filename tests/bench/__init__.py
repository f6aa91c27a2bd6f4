"""`make bench`: Forebay beside other systems and beside the bare model, in one interleaved run.

    run ── plan: which contenders take which loads
     │
     ├── contenders   forebay_server   `forebay up`, as a user starts it
     │                peer             peers/*.py, in an environment of their own
     │                bare             the same artifact in loops: what is left to win
     │
     ├── rounds       for each round, for each load: A, B, C …, each warmed up, then measured
     │     └── wrk (load.lua)          counts what was answered right, and what failed
     │
     └── tables, page                  medians, ratios paired by round, goals met or not

It times nothing in the test suite: how fast a machine is, is no test. Why it works this way is in
docs/decisions/0007-how-we-benchmark.md.
"""
