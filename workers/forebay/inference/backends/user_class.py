"""Finds the class of a python model or pipeline, makes one of it, hashes the code it came from.

It may import the modules beside it, as a script may, and they are its own (`own_modules`). Every
error names the file, the line where there is one, and what to do.
"""

import hashlib
import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from forebay.contract.class_source import ClassSource
from forebay.contract.errors import ArtifactError, ConfigurationError
from forebay.contract.model import ModelSpec
from forebay.inference.backends.own_modules import OwnModules, is_import, is_of_another
from forebay.inference.backends.user_files import data_url
from forebay.inference.backends.user_rows import UNSAYABLE, encoded, kind_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_INSTALLED = frozenset({"site-packages", "dist-packages"})


class UserClass:
    """A user's class, and the one object that is made of it.

    Args:
        spec: whose `source` names the class.

    Raises:
        ConfigurationError: there is no such file, module or class.
        ArtifactError: the code raised while it was imported, made or loaded.
    """

    def __init__(self, spec: ModelSpec) -> None:
        source = ClassSource.parse(spec.source)
        self._model = spec.name
        self.told = source.place
        self._own: OwnModules | None = None
        try:
            self._open(source, Path(spec.folder or ".").absolute())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the class's own modules; nothing of it runs any more."""
        if self._own is not None:
            self._own.close()

    def _open(self, source: ClassSource, folder: Path) -> None:
        if source.is_file:
            module = self._import_file(folder / Path(source.place).expanduser())
        else:
            module = self._import_module(source.place, folder)
        self._class = self._class_in(module, source.name)
        self.told = f"{self._file}:{source.name}"
        self.object = self.attempt("made", self._class)
        load = getattr(self.object, "load", None)
        if load is not None:
            self.attempt("loaded", load)

    def attempt(self, what: str, call: Callable[[], T]) -> T:
        """Call the user's code before anything is served.

        Args:
            what: happens to the class, as in "could not be loaded".
            call: the code.

        Raises:
            ArtifactError: it raised; the message names file and line.
        """
        try:
            return call()
        except ConfigurationError:
            raise
        except (Exception, SystemExit) as error:
            own = self._own_frames(error)
            log.error(
                "the class of %s could not be %s",
                self._model,
                what,
                exc_info=(type(error), error, own) if own is not None else None,
            )
            raise ArtifactError(
                f"The class of {self._model!r} could not be {what}: {self._place(error)}: "
                f"{shown(error)}. Mend it, and try it with `forebay models check {self._model}`."
            ) from error

    def wrong(self, what: str) -> ArtifactError:
        """The error for a class that is not what a worker can run."""
        return ArtifactError(f"{self.told}, the class of {self._model!r}: {what}")

    def option(self, name: str, kind: type[Any], what: str) -> Any:
        """What the class says under a name; None if it doesn't.

        Args:
            name: of the attribute.
            kind: what it has to be.
            what: that is, for people.

        Raises:
            ArtifactError: it is something else.
        """
        value = getattr(self.object, name, None)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self.wrong(f"`{name}` must be {what}, and not a {kind_of(value)}.")
        return value

    @property
    def samples(self) -> list[bytes]:
        """Rows of the class's own, as JSON.

        Raises:
            ArtifactError: `samples` is no list of what JSON can say.
        """
        try:
            return [
                encoded(row, file=data_url)
                for row in self.option("samples", Sequence, "a list of rows") or ()
            ]
        except UNSAYABLE as error:
            raise self.wrong(f"`samples` can't be written as JSON: {error}.") from error

    def digest(self) -> str:
        """Hex SHA-256 of the code that was imported from the class's folder, and of its `files`.

        Raises:
            ArtifactError: one of those is not there.
        """
        files = self.option("files", Sequence, "a list of paths beside the class's file") or ()
        if isinstance(files, str):
            raise self.wrong("`files` must be a list of paths, and not one text.")
        digest = hashlib.sha256(f"python 1\0{self._class.__qualname__}".encode())
        hashed = self._own_modules()
        for name in map(str, files):
            path = hashed[f"files/{name}"] = self._file.parent / name
            if not path.is_file():
                raise self.wrong(f"`files` names {name!r}, and there is no {path}.")
        for name, path in sorted(hashed.items()):
            digest.update(f"\0{name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def _own_modules(self) -> dict[str, Path]:
        """What has been imported from the class's folder, by path relative to it."""
        own = {self._file.name: self._file}
        for name, module in list(sys.modules.items()):
            if is_of_another(name, self._own):
                continue
            # Not by `getattr`: a module may import a good deal more when it is asked.
            file: object = getattr(module, "__dict__", {}).get("__file__")
            if not isinstance(file, str) or not Path(file).is_relative_to(self._root):
                continue
            inside = Path(file).relative_to(self._root)
            if not _INSTALLED & set(inside.parts) and Path(file).is_file():
                own[inside.as_posix()] = Path(file)
        return own

    def _import_file(self, path: Path) -> ModuleType:
        if not path.is_file():
            raise ConfigurationError(
                f"models.{self._model}.source names {path}, which is not there: write it, or "
                "correct the path, which is relative to the catalog's folder."
            )
        self.told, self._file, self._root = str(path), path, path.parent
        self._own = own = OwnModules(path.parent, self._model)
        return self.attempt("imported", lambda: own.load_file(path))

    def _import_module(self, name: str, folder: Path) -> ModuleType:
        own = OwnModules(folder, self._model)
        load: Callable[[str], ModuleType] = importlib.import_module
        if own.holds(name):
            self._own, load = own, own.load
        else:
            own.close()

        def found() -> ModuleType:
            try:
                return load(name)
            except ModuleNotFoundError as missing:
                if not f"{name}.".startswith(f"{missing.name}."):
                    raise
                raise ConfigurationError(
                    f"models.{self._model}.source names the module {name!r}, and {missing.name!r} "
                    f"is neither in {folder} nor installed: correct it, or install it where the "
                    "worker runs."
                ) from missing

        module = self.attempt("imported", found)
        if module.__file__ is None:
            raise ConfigurationError(
                f"models.{self._model}.source names {name!r}, which is a folder: name a module."
            )
        package = f"{self._own.package}." if self._own is not None else ""
        top = sys.modules[package + name.partition(".")[0]]
        self._file = Path(module.__file__)
        self._root = Path(top.__file__ or module.__file__).parent if _holds(top) else folder
        return module

    def _class_in(self, module: ModuleType, name: str) -> type[Any]:
        found: object = getattr(module, name, None)
        if inspect.isclass(found):
            return found
        own = [
            name
            for name, one in vars(module).items()
            if inspect.isclass(one) and one.__module__ == module.__name__
        ]
        there_is = f"only {', '.join(own)}" if own else "no class at all"
        raise ConfigurationError(
            f"models.{self._model}.source names the class {name!r}, and in {self._file} there is "
            f"{there_is}: correct one of the two."
        )

    def _place(self, error: BaseException) -> str:
        """The file at fault, and the last line of the user's own that led there."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}, line {error.lineno}"
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if self._is_own(frame.filename)
        ]
        return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else self.told

    def _own_frames(self, error: BaseException) -> TracebackType | None:
        """The traceback from where their code begins, without imports; None if it never did."""
        kept: list[TracebackType] = []
        frames = error.__traceback__
        while frames is not None:
            file = frames.tb_frame.f_code.co_filename
            if self._is_own(file) or (kept and not is_import(file)):
                kept.append(frames)
            frames = frames.tb_next
        shown = None
        for one in reversed(kept):
            shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
        return shown

    def _is_own(self, file: str) -> bool:
        root = str(getattr(self, "_root", ""))
        return bool(root) and file.startswith(root) and not _INSTALLED & {*file.split("/")}


def shown(error: BaseException) -> str:
    """An exception on one line: its type, and what it says."""
    said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {said[:500]}".rstrip(": .")


def _holds(module: ModuleType) -> bool:
    """Whether it is a package: a folder of modules."""
    return hasattr(module, "__path__")
