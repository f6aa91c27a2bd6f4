"""The contract: the words every part of Forebay shares, with no I/O of any kind.

Nothing here opens a socket, a file or an event loop; whatever imports it stays testable without
a server. The gateway, the lanes and the workers know one another only through these types.

    errors      what can go wrong, by kind
    model       what `models.toml` says about a model
    signature   which tensors it says a converted source has
    manifest    what a built artifact says about itself
    steps       which model has which others as its steps
    rows        the units a batch is made of, and what comes out of them
    messages    what travels on lanes and reply channels
    workers     what workers tell of themselves, and may be told to do
    prediction  the job object and its state machine
"""
