"""One atomic operation each, on what is taken from queues that are lists of a Redis."""
