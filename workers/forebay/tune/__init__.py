"""Which settings serve a model best on this machine: measured, and the best of them kept.

    space ──▶ builds ──▶ halving ──▶ rates ──▶ choice ──▶ settings
    what      one a      many, for   few, for  what meets  models.toml,
    there is  precision  short; the  longer;   the goals   or a snippet
                         better half arrivals  best
                         goes on     at random

goals      what is asked: latency, accuracy, memory
space      which builds and which serving settings there are
builds     an artifact for each build, in a store of its own
traffic    the rows that are run
trial      a process that serves one candidate, as a worker would, without lanes
engine     what runs in it: a worker's batching
trials     the other end: starts such processes, and asks them
orders     what is said between the two
arms       what is known of a candidate so far
halving    how many are tried, for how long, and who goes on
rates      up to which rate of arrivals a candidate meets the goals
search     all of that in order, within the time there is
figures    percentiles and spreads
pareto     who is beaten in everything by whom
choice     which one is best, and why; or what came nearest
outcome    what a tuning found, as it is kept
settings   the chosen settings as TOML, and in `models.toml`
plot       a picture of it, drawn with `svg`

A package beside `build` and `inference` that imports both, because neither may import the other
(decision 0032).
"""
