"""What requests for text say beside the prompt: fields that their endpoints have in common.

Fields that OpenAI documents and nothing here heeds are known by name, so that a request which needs
one is refused with what to do, rather than answered as if it hadn't asked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.gateway.generation import Choices, SamplingFields

MAX_METADATA: Final = 16

MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=MAX_METADATA)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How something is streamed.

    Attributes:
        include_obfuscation: must not be true: nothing is added to hide how long tokens are.
    """

    include_obfuscation: bool | None = None


class TextStreamOptions(StreamOptions, frozen=True, forbid_unknown_fields=True):
    """How chats and completions are streamed.

    Attributes:
        include_usage: a last chunk, without choices, tells the tokens.
    """

    include_usage: bool | None = None


Refused = Mapping[str, tuple[frozenset[Any], str]]
"""Fields that nothing here heeds, by name: values of each that ask for nothing, and what to do
instead of any other."""


class ModelRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request for text may say.

    Attributes:
        stream: send what there is as it is made.
        user: keeps its version of the model, where there are several.
        metadata: taken as it is documented.
    """

    model: str
    stream: bool | None = None
    user: str | None = None
    metadata: Metadata | None = None

    def check(self, refused: Refused) -> None:
        """Refuse what can't be done.

        Args:
            refused: fields that are not heeded.

        Raises:
            InvalidInput: it is asked for.
        """
        for name, (harmless, instead) in refused.items():
            value = getattr(self, name)
            if not (value is None or _plain(value) in harmless):
                raise InvalidInput(f"{name} is not available here: {instead}.", param=name)


class TextRequest(ModelRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request for text may say, of a chat or of a prompt.

    Attributes:
        n: how many texts are wanted of each prompt.
        stream_options: how it is streamed; only with `stream`.
    """

    n: Choices | None = None
    stream_options: TextStreamOptions | None = None

    @property
    def choices(self) -> int:
        """How many texts are wanted of each prompt."""
        return self.n or 1

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self, refused: Refused) -> None:
        """Refuse what can't be done.

        Args:
            refused: fields that are not heeded.

        Raises:
            InvalidInput: it is asked for.
        """
        super().check(refused)
        check_streamed(self.stream_options, stream=bool(self.stream))


def check_streamed(options: StreamOptions | None, *, stream: bool) -> None:
    """Refuse options of a stream that can't be heeded.

    Args:
        options: as they were sent.
        stream: whether there is to be a stream at all.

    Raises:
        InvalidInput: there is none, or something is asked for that is not there.
    """
    if options is not None and not stream:
        raise InvalidInput(
            "stream_options goes with `stream: true` only: leave it out.",
            param="stream_options",
        )
    if options is not None and options.include_obfuscation:
        raise InvalidInput(
            "stream_options.include_obfuscation is not available here: leave it out.",
            param="stream_options.include_obfuscation",
        )


def most_tokens(request: ModelRequest, name: str, most: int | None) -> int | None:
    """Most tokens that a request wants, by either of two names.

    Args:
        request: has the older one, `max_tokens`.
        name: the newer one.
        most: what the request says by that.

    Raises:
        InvalidInput: they differ.
    """
    older = request.max_tokens
    if most is not None and older is not None and most != older:
        raise InvalidInput(
            f"{name} is {most:,} and max_tokens {older:,}: send one of them.", param="max_tokens"
        )
    return most


def _plain(value: Any) -> Any:
    """A value to be looked up: what is a list or an object by its JSON."""
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, order="deterministic").decode()
    return value
