"""RQ's job: it may not be in the program that enqueues it."""


def echo(value: int) -> int:
    return value
