"""`make chaos`: kill, pause and restart real processes under load, and count what is left.

    run ── scenarios/*      what is done to whom, and what is promised
     │         │
     │         ├── scene    gateways, workers, backgrounds: programs that really run, on servers
     │         │     └── odd        a worker whose rows may raise, crash it, or hold it up
     │         ├── clients  send predictions over HTTP, and remember what they were told
     │         │     └── flood      clients who don't wait as they are told to
     │         └── audit    what became of each: in its client's eyes, and in Redis's
     │
     └── page               the table, for the terminal and for docs/chaos.md

Promises are about counts, never about speed: a slow machine keeps them too. A short form of each
scenario is a test, `test_chaos.py`.
"""
