"""How a model that generates reads and ends text: tokenizer, chat template, last tokens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from forebay.build.decoders.calling import Message, form_of
from forebay.build.tracing import quiet
from forebay.contract.errors import BuildFailed
from forebay.contract.tools import ToolForm

TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"

TOO_NEW_OR_BROKEN = (
    OSError, ValueError, ImportError, KeyError, RuntimeError, AttributeError, TypeError
)  # fmt: skip
"""What transformers raises on a model or tokenizer that it can't load."""

_TRIED = [{"role": "user", "content": "Is there a train to the coast tonight?"}]
"""A chat that any template takes."""


class Words(msgspec.Struct, frozen=True):
    """What an artifact has beside its graph.

    Attributes:
        tokenizer: as transformers uses it, with truncation and padding off.
        template: of chats; None of a model that only goes on with a text.
        end_ids: tokens that end a text.
        bos: text of the token that begins a text.
        eos: likewise of the one that ends it.
        tools: how the model writes calls, where its template has a form for them.
    """

    tokenizer: Tokenizer
    template: str | None
    end_ids: tuple[int, ...]
    bos: str | None
    eos: str | None
    tools: ToolForm | None = None

    def save(self, folder: Path) -> None:
        """Write what a worker reads."""
        self.tokenizer.save(str(folder / TOKENIZER), pretty=False)
        if self.template is not None:
            (folder / TEMPLATE).write_text(self.template, "utf-8")


def read(folder: Path) -> Words:
    """Read them from a Hugging Face folder.

    Raises:
        BuildFailed: the tokenizer can't be loaded, the template can't be rendered, or nothing says
            which token ends a text.
    """
    import transformers

    known: Any = transformers
    try:
        with quiet():
            made = known.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except TOO_NEW_OR_BROKEN as error:
        raise BuildFailed(f"The tokenizer in {folder} can't be loaded: {error}") from error
    backend = getattr(made, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BuildFailed(f"The tokenizer in {folder} has no {TOKENIZER} to serve with.")
    plain = Tokenizer.from_str(backend.to_str())
    plain.no_truncation()
    plain.no_padding()
    template, ends = _template(folder, made), _ends(folder, made)
    tools = _tools(made, template, [made.convert_ids_to_tokens(end) for end in ends])
    return Words(plain, template, ends, made.bos_token, made.eos_token, tools)


def _template(folder: Path, tokenizer: Any) -> str | None:
    """The template for chats; of several, the one named `default`."""
    told: str | dict[str, str] | None = tokenizer.chat_template
    template = told.get("default") if isinstance(told, dict) else told
    if not template:
        return None
    try:
        tokenizer.apply_chat_template(
            _TRIED, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # whatever a template makes Python raise
        raise BuildFailed(
            f"The chat template in {folder} can't be rendered: {error}. Correct {TEMPLATE} there, "
            "or what tokenizer_config.json has as `chat_template`; without one the model goes on "
            "with texts, and takes no chats."
        ) from error
    return template


def _tools(tokenizer: Any, template: str | None, ends: Sequence[str]) -> ToolForm | None:
    """How calls are written, as the template has it."""
    if template is None:
        return None

    def render(
        messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, begin: bool
    ) -> str:
        told: str = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=begin,
        )
        return told

    return form_of(render, ends)


def _ends(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end a text, as any of the files says: chats often end by another than texts."""
    ids: set[int | None] = set()
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            told = json.loads(path.read_text("utf-8")).get("eos_token_id")
            ids |= set(told) if isinstance(told, list) else {told}
    ids.add(tokenizer.eos_token_id)
    found = sorted(one for one in ids if one is not None)
    if not found:
        raise BuildFailed(
            f"Nothing in {folder} says which token ends a text: set `eos_token_id` in "
            "generation_config.json."
        )
    return tuple(found)
