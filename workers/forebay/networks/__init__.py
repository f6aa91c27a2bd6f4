"""PyTorch networks as workers run them. A build runs them too, to measure what it publishes.

    config.json ─▶ architecture ─▶ linears in 8 bits ─▶ weights ─▶ pooling or logits ─▶ compile

    network    the network itself, opened from an artifact's folder
    per_token  a linear layer in 8 bits, one scale a token
    feeding    rows to tensors, each at a width that is its own whoever shares its batch
    running    forward passes, eager or compiled, on a device
    threads    how threads wait; says so before PyTorch is imported
    decoder    a network that generates text, run over slots: parts of prompts, and steps
    slots      keys and values of all slots, where transformers' models look for theirs

Only the torch backend and the build import this package (decisions 0027 and 0045).
"""
