"""The input of a task, which may be the bare value of a model's one obvious field."""

from typing import Final

from forebay.background.ingress.calls import Call
from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Task

OBVIOUS: Final = {
    Task.EMBEDDING: "text",
    Task.CLASSIFICATION: "text",
    Task.TOKEN_CLASSIFICATION: "text",
    Task.IMAGE_CLASSIFICATION: "image",
    Task.GENERATION: "prompt",
    Task.ECHO: "value",
}
"""Fields by task."""


def input_of(call: Call, task: Task | None) -> bytes:
    """The input of a call, as JSON.

    Args:
        call: of which one argument is it.
        task: of the model; None where it is not known.

    Raises:
        InvalidInput: there is none, or there are two.
    """
    named, positional = bytes(call.arguments.input), bytes(call.positional)
    if named and positional:
        raise InvalidInput(
            "There are two inputs, one by position and one by name. In a chain the first is what "
            "the step before came to: make this step immutable (.si) to give it an input of its "
            "own."
        )
    bare = (named or positional).strip()
    if not bare:
        raise InvalidInput("There is no input: give `input`, or let a chain's step before do so.")
    field = OBVIOUS.get(task) if task is not None else None
    if field is None or bare.startswith(b"{"):
        return bare
    return b'{"%s":%s}' % (field.encode(), bare)
