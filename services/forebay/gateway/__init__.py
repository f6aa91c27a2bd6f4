"""The gateway: HTTP at one end, lanes at the other, and as little as possible in between.

    client ─▶ uvicorn ─▶ App ─▶ Endpoint ─▶ dialect ─▶ Dispatch ──▶ LaneWriter ─▶ lane
                                   │                      │
    client ◀─────── one write ◀────┴── dialect renders ◀──┴── Inbox ◀─ reply channel

    app        composition root: builds the parts, starts and stops them, serves
    inside     the same without a socket, for work that comes by other ways
    serving    the listening socket, uvicorn, and a clean end
    protocol   uvicorn's connection, and errors of ours for what its parser refuses
    corked     one system call a response
    http       reading a bounded body and writing one whole answer
    paths      what answers at a path, by method, in every dialect
    sse        answers that come event by event
    bodies     JSON into typed structs, and saying what is wrong with it
    errors     the one table from kinds of error to HTTP, and RFC 9457 bodies
    names      what clients call requests that may come again
    repeats    leads those to the first one's prediction
    reads      commands to Redis outside the hot path
    dispatch   the one way from rows to a lane and back, behind every dialect
    work       a request on its way to a lane, and what of it is put there
    patience   how long a request may take
    submitting its name, the cache, its lane, and the wait
    endings    from replies to what the client asked for
    waits      for what was enqueued, until done, too late, or nobody waits
    streaming  predictions read while they are generated
    generation how a text is to be generated, as every dialect says it
    chats      messages to a row
    pairs      the bound on texts that are put beside several others
    reranking  a query and documents to rows, and back to an order
    zero_shot  a text and labels to rows, and back to scores
    repository which models workers have loaded; has them load and unload
    versions   which artifact serves a model, for clients that pin one
    batching   batches of requests in files: made, told of, cancelled
    health     liveness, readiness, and what is at `/`
    dialects/  translate one protocol each; they know dispatch and the contract, nothing else

It keeps no state a client could miss: any gateway answers for any prediction. It never loads a
model or a tokenizer: it checks shape and size, and the worker checks the rest.

Why raw ASGI endpoints under Starlette: decision 0003.
"""
