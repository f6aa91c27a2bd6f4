"""Tools that a model may call, and its calls: names and arguments, for the client to carry out."""

import msgspec


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that the model may call.

    Attributes:
        name: by which it is called.
        parameters: JSON schema of its arguments, as JSON.
        description: what it does, for the model to read.
    """

    name: str = msgspec.field(name="n")
    parameters: str = msgspec.field(name="p")
    description: str | None = msgspec.field(name="d", default=None)


class Tools(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model may call in one answer. With none of it, an answer is a text.

    Attributes:
        tools: all that the model is told of.
        required: it must call one, and writes nothing else.
        only: it must call the one of this name.
        parallel: it may call several at once, where its template has a form for that.
    """

    tools: tuple[Tool, ...] = msgspec.field(name="t")
    required: bool = msgspec.field(name="r", default=False)
    only: str | None = msgspec.field(name="o", default=None)
    parallel: bool = msgspec.field(name="p", default=True)


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call of a tool.

    Attributes:
        name: of the tool.
        arguments: as the model wrote them: JSON, unless the text was cut off.
        id: by which its result names it; of calls in a chat only, a fresh one has none yet.
    """

    name: str = msgspec.field(name="n")
    arguments: str = msgspec.field(name="a")
    id: str = msgspec.field(name="i", default="")


class CallPiece(msgspec.Struct, frozen=True, array_like=True):
    """What a step added to a call; travels as an array, later fields at its end.

    Attributes:
        index: which call of the text, from 0.
        name: of the tool, in a call's first piece; empty in others.
        arguments: the next part of them.
    """

    index: int
    name: str = ""
    arguments: str = ""


class ToolForm(msgspec.Struct, frozen=True):
    """How a model writes calls, as its template does: `before` NAME `middle` ARGUMENTS `after`.

    Attributes:
        marker: what `before` begins with and no other text has; empty where a call is a whole text
            that begins with `before`.
        before: all that stands before the first call's name, the marker included.
        middle: between a call's name and its arguments.
        after: behind the last call's arguments.
        between: from one call's arguments to the next one's name; empty where a text has one call.
    """

    marker: str
    before: str
    middle: str
    after: str
    between: str = ""
