"""What a user's class takes, told by the annotation of its method: schema, checks, decoding."""

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Row, ValueRow
from forebay.contract.validation import explain, unknown_parameter
from forebay.inference.backends import user_files
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.user_files import UserFiles

log = logging.getLogger(__name__)

HOW = (
    "annotate its argument as `list[Row]`, where Row is a msgspec.Struct, a dataclass or a "
    "TypedDict; `list[dict[str, Any]]` takes any object"
)

HOW_TO_RUN = (
    "annotate its first argument as a msgspec.Struct, a dataclass or a TypedDict; `dict[str, Any]` "
    "takes any object"
)

_WITH_FIELDS = (types.StructType, types.DataclassType, types.TypedDictType)


class WrongAnnotationError(Exception):
    """The annotations don't say what a row is; the text says why."""


class RowType:
    """The type of one row.

    Args:
        row: the user's annotation of one; None if there is none.
        output: likewise of what comes of it.
        how: says how to annotate it.
        files: reads fields that are files, where a row may have such.

    Raises:
        WrongAnnotationError: a row is nothing that a JSON object can be.
    """

    def __init__(
        self, row: Any, output: Any, *, how: str = HOW, files: UserFiles | None = None
    ) -> None:
        if row is None:
            raise WrongAnnotationError(how)
        try:
            self._checker = self._decoder = msgspec.json.Decoder(row)
            schema_hook = None
            if files is not None:
                self._checker = msgspec.json.Decoder(row, dec_hook=_hook(files.check))
                self._decoder = msgspec.json.Decoder(row, dec_hook=_hook(files.copied))
                schema_hook = user_files.field
            self.schema: dict[str, Any] = msgspec.json.schema(row, schema_hook=schema_hook)
            kind = types.type_info(row)
        except (TypeError, NameError) as error:
            raise WrongAnnotationError(f"a row can't be read from JSON ({error}); {how}") from error
        if not _is_object(kind):
            raise WrongAnnotationError(f"a row is a JSON object; {how}")
        self._fields = _fields(kind)
        if self._fields is not None:
            self._close(self.schema)
        self.output_schema = _schema_or_any(output)

    @classmethod
    def of_predict(cls, predict: Callable[..., Any], files: UserFiles) -> "RowType":
        """That of a python model's `predict`, which takes a list of rows.

        Args:
            predict: the method.
            files: reads fields that are files.

        Raises:
            WrongAnnotationError: its annotation is missing, or nothing that a JSON object can be.
        """
        hints, name = _hints(predict), _argument(predict)
        return cls(_item(hints.get(name)), _item(hints.get("return")), files=files)

    @classmethod
    def of_run(cls, run: Callable[..., Any]) -> "RowType":
        """That of a pipeline's `run`, which takes a row and the models that it may call.

        Raises:
            WrongAnnotationError: likewise.
        """
        taken = list(inspect.signature(run).parameters.values())
        if len([one for one in taken if one.default is one.empty]) != 2:
            raise WrongAnnotationError("write it as `async def run(self, row: Row, models)`")
        hints = _hints(run)
        return cls(hints.get(taken[0].name), hints.get("return"), how=HOW_TO_RUN)

    def check(self, row: bytes) -> InvalidInput | None:
        """Why a row is refused; None if it isn't.

        Args:
            row: as JSON.
        """
        try:
            self._checker.decode(row)
            if self._fields is not None:
                for field in _keys.decode(row):
                    if field not in self._fields:
                        return unknown_parameter(f"input.{field[:80]}")
        except msgspec.ValidationError as error:
            return explain(str(error), within="input")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return InvalidInput(f"input: this is no JSON that can be read: {error}.", param="input")
        return None

    def decode(self, row: bytes) -> Any:
        """A row that has passed `check`, as an object of the user's type, made anew.

        Raises:
            msgspec.ValidationError: a file that it names has gone since.
            Unavailable: it can't be read now.
        """
        return self._decoder.decode(row)

    def prepare(self, rows: Sequence[Row], *, told: str) -> list[PreparedRow | InvalidInput]:
        """Check rows; see `Loaded.prepare`. `data` of each is its JSON.

        Args:
            rows: of one computation.
            told: names the class, for the log.
        """
        return [self._prepare(row, index, told) for index, row in enumerate(rows)]

    def _prepare(self, row: Row, index: int, told: str) -> PreparedRow | InvalidInput:
        if not isinstance(row, ValueRow):
            return InvalidInput("This model takes JSON objects, not text or tokens.", row=index)
        try:
            refused = self.check(row.json)
        except (Exception, SystemExit) as error:  # a check of the user's own: `__post_init__`
            log.warning("%s: a row's own check raised", told, exc_info=error)
            refused = InvalidInput("The model can't read this row. The worker's log says why.")
        if refused is None:
            return PreparedRow(1, row.json)
        refused.row = index
        return refused

    def _close(self, schema: dict[str, Any]) -> None:
        """Say in the schema too that there are no other fields."""
        reference: str = schema.get("$ref", "")
        part = schema["$defs"][reference.rpartition("/")[2]] if reference else schema
        part["additionalProperties"] = False


_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encoded(value: Any, *, file: Callable[[Path], str] | None = None) -> bytes:
    """What a user's code gave, as JSON; arrays and their numbers as lists, whoever made them.

    Args:
        value: anything.
        file: says what stands for a file, where there may be some.

    Raises:
        TypeError: there is something in it that JSON can't say; likewise the other errors.
        ValueError: likewise.
        OverflowError: likewise.
        RecursionError: likewise.
    """

    def plain(value: Any) -> Any:
        return file(value) if file is not None and isinstance(value, Path) else _plain(value)

    return msgspec.json.encode(value, enc_hook=plain)


UNSAYABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What `encoded` raises."""


def kind_of(value: object) -> str:
    """The name of a value's type, for people."""
    return type(value).__name__


def _plain(value: Any) -> Any:
    """Arrays and their numbers, whichever library they are of, as what JSON knows."""
    as_list = getattr(value, "tolist", None)
    if callable(as_list):
        return as_list()
    raise TypeError(f"{kind_of(value)} is none of JSON's types")


def _hook(read: Callable[[object], Path]) -> Callable[[type[Any], Any], Any]:
    """What msgspec calls for a kind of field that it doesn't know: files are the only ones."""

    def hook(kind: type[Any], value: Any) -> Any:
        if kind is not Path:
            raise NotImplementedError
        return read(value)

    return hook


def _argument(predict: Callable[..., Any]) -> str:
    """Name of the one argument of `predict`."""
    try:
        taken = list(inspect.signature(predict).parameters.values())
    except (TypeError, ValueError):
        taken = []
    needed = [one for one in taken if one.default is one.empty]
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not taken or taken[0].kind not in plain or len(needed) > 1:
        raise WrongAnnotationError("write it as `def predict(self, rows: list[Row])`")
    return taken[0].name


def _hints(predict: Callable[..., Any]) -> Mapping[str, Any]:
    function = inspect.unwrap(getattr(predict, "__func__", predict))
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are code, which may raise anything
        raise WrongAnnotationError(f"its annotations can't be understood: {error}") from error


def _item(hint: Any) -> Any:
    """X of `list[X]` and its like; None if it is no such thing."""
    if typing.get_origin(hint) in (list, Sequence) and len(typing.get_args(hint)) == 1:
        return typing.get_args(hint)[0]
    return None


def _is_object(kind: types.Type) -> bool:
    match kind:
        case types.UnionType(types=several):
            return all(map(_is_object, several))
        case types.Metadata(type=inner):
            return _is_object(inner)
        case types.StructType(array_like=True):
            return False
        case _:
            return isinstance(kind, (*_WITH_FIELDS, types.DictType))


def _fields(kind: types.Type) -> frozenset[str] | None:
    """The names a row's fields have in JSON; None where it may have any."""
    if isinstance(kind, types.Metadata):
        return _fields(kind.type)
    if not isinstance(kind, _WITH_FIELDS):
        return None
    tag = {kind.tag_field} if isinstance(kind, types.StructType) and kind.tag_field else set[str]()
    return frozenset({field.encode_name for field in kind.fields} | tag)


def _schema_or_any(output: Any) -> dict[str, Any]:
    """What an output looks like, if the annotation says so."""
    if output is None:
        return {}
    try:
        return msgspec.json.schema(output, schema_hook=user_files.field)
    except (TypeError, NameError):
        return {}
