"""What requests for text say beside the prompt: fields that chats and completions have in common.

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
    """How a text is streamed.

    Attributes:
        include_usage: a last chunk, without choices, tells the tokens.
        include_obfuscation: must not be true: nothing is added to hide how long tokens are.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request for text may say, of a chat or of a prompt.

    Attributes:
        n: how many texts are wanted of each prompt.
        stream: send what there is as it is made.
        stream_options: how; only with `stream`.
        user: keeps its version of the model, where there are several.
        metadata: taken as it is documented, and told to nobody.
    """

    model: str
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: Metadata | None = None

    @property
    def choices(self) -> int:
        """How many texts are wanted of each prompt."""
        return self.n or 1

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self, refused: Mapping[str, tuple[frozenset[Any], str]]) -> None:
        """Refuse what can't be done.

        Args:
            refused: fields that are not heeded, by name: values that ask for nothing, and what to
                do instead of any other.

        Raises:
            InvalidInput: it is asked for.
        """
        for name, (harmless, instead) in refused.items():
            value = getattr(self, name)
            if not (value is None or _plain(value) in harmless):
                raise InvalidInput(f"{name} is not available here: {instead}.", param=name)
        options = self.stream_options
        if options is not None and not self.stream:
            raise InvalidInput(
                "stream_options goes with `stream: true` only: leave it out.",
                param="stream_options",
            )
        if options is not None and options.include_obfuscation:
            raise InvalidInput(
                "stream_options.include_obfuscation is not available here: leave it out.",
                param="stream_options.include_obfuscation",
            )


def _plain(value: Any) -> Any:
    """A value to be looked up: what is a list or an object by its JSON."""
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, order="deterministic").decode()
    return value
