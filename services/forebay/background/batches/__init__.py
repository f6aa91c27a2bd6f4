"""Batches of requests in files: taken, checked, run and told, by whichever process holds them.

    open ─take─▶ Work ─▶ check ─▶ Run ─▶ ending ─▶ files of answers and of errors
                  │ renews the lease │
                                     └─ lines ─▶ Window ─▶ Asking ─▶ Results ─▶ segments ─▶ Redis

    service     takes batches that nobody holds
    work        one batch, from taking it to its end
    check       what is wrong with a file
    lines       a line and its request
    run         the lines in flight
    window      how many of them there may be, shared by the batches of a process
    results     what came of them, kept so that a kill loses and repeats no line
    rendering   a line of an answer
    usage       what answers cost, in tokens
    ending      the files made of segments

Nothing of a batch is in memory but the lines in flight and what is not yet kept of their answers.
"""
