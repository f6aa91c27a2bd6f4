"""The modules beside a user's class: each class has its own, whatever others of the process have.

    a/model.py: import helper ─▶ `__import__` of a's modules ─▶ sys.modules["model_5e1f….helper"]
    b/model.py: import helper ─▶ `__import__` of b's modules ─▶ sys.modules["model_90c2….helper"]

A class's folder is a package of its own name, and `import` in its modules looks there first: which
`__import__` a statement calls is said by the `__builtins__` of the module that it stands in (Python
Reference, 7.11 and 4.2.2), so it holds on any thread, and for what is imported late. What asks for
a module by its plain name in other ways (pickle, `importlib.import_module`) finds an `_Alias`.
"""

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

_known: Final[dict[str, "OwnModules"]] = {}
"""Those of all classes that are loaded, by the name of their package."""

_lock: Final = threading.Lock()


class OwnModules:
    """A folder whose modules are imported for one class only.

    Args:
        folder: the class's.
        owner: the model's name; with the folder it makes the package's name, so that a pickle of
            one process can be read by the next.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        digest = hashlib.sha256(f"{folder}\0{owner}".encode()).hexdigest()[:12]
        name = f"{''.join(c if c.isalnum() else '_' for c in owner)}_{digest}"
        with _lock:
            number = 1
            while name in _known:  # a reload: the one before still serves
                number += 1
                name = f"{name.removesuffix(f'__{number - 1}')}__{number}"
            self.package: Final = name
            _known[name] = self
            _find_them()
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._tops: set[str] = set()
        self._aliased: set[str] = set()
        root = ModuleType(name, "The folder of a user's class.")
        root.__path__ = [str(folder)]
        root.__spec__ = ModuleSpec(name, None, is_package=True)
        sys.modules[name] = root

    def close(self) -> None:
        """Forget the modules; nothing of the class runs any more."""
        with _lock:
            _known.pop(self.package, None)
        for name in [name for name in sys.modules if _top(name) == self.package]:
            sys.modules.pop(name, None)

    def holds(self, name: str) -> bool:
        """Whether a name, such as `a.b`, begins with a module or package of the folder.

        A mere folder, without `__init__.py`, is one only where nothing of that name is installed.
        """
        top = _top(name)
        if top not in self._tops:
            spec = PathFinder.find_spec(f"{self.package}.{top}", [str(self.folder)])
            if spec is None or (spec.origin is None and _is_installed(top)):
                return False
            self._tops.add(top)
        return True

    def load(self, name: str) -> ModuleType:
        """Import a module by the name that it has in the folder.

        Raises:
            ModuleNotFoundError: there is none; its `name` is the plain one.
            Exception: whatever the module raises.
        """
        try:
            return importlib.import_module(f"{self.package}.{name}")
        except ModuleNotFoundError as error:
            prefix = f"{self.package}."
            if error.name is None or not error.name.startswith(prefix):
                raise
            plain = error.name.removeprefix(prefix)
            raise ModuleNotFoundError(f"No module named {plain!r}", name=plain) from None

    def load_file(self, path: Path) -> ModuleType:
        """Import a file of the folder, whatever it is called.

        Raises:
            Exception: whatever the module raises.
        """
        name = f"{self.package}.{path.stem.replace('.', '_')}"
        spec = importlib.util.spec_from_file_location(name, path, loader=self.loader(name, path))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return sys.modules[name]

    def loader(self, name: str, path: Path) -> SourceFileLoader:
        """What runs a file as one of these modules."""
        return _Loader(name, str(path), self._builtins)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` for these modules: what lies in the folder comes first."""
        # A json.py that imports `json` means Python's.
        itself = globals is not None and globals.get("__name__") == f"{self.package}.{_top(name)}"
        if level or itself or not self.holds(name):
            return builtins.__import__(name, globals, locals, fromlist, level)
        self.load(name)
        if name not in self._aliased:
            # In C, pickle imports by this function and then looks in `sys.modules`.
            if not _is_installed(_top(name)):
                importlib.import_module(name)
            self._aliased.add(name)
        if fromlist:
            full = f"{self.package}.{name}"
            return builtins.__import__(full, globals, locals, fromlist, 0)
        return sys.modules[f"{self.package}.{_top(name)}"]


def is_of_another(name: str, own: OwnModules | None) -> bool:
    """Whether a module of this name in `sys.modules` is one of another class."""
    whose = _known.get(_top(name))
    return whose is not None and whose is not own


def is_import(file: str) -> bool:
    """Whether a frame of this file is of an import, and not of what is imported."""
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__)


class _Loader(SourceFileLoader):
    """Runs a module with the builtins of its folder's."""

    def __init__(self, name: str, path: str, own_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = own_builtins

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)


class _Alias(ModuleType):
    """A plain name, by which each class finds its own module, told by who asks."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(_whose(self.__name__).load(self.__name__), name)
        except ModuleNotFoundError as error:
            raise AttributeError(str(error)) from error


class _OwnFinder:
    """Finds what is asked for by its full name, with the package before it."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own = _known.get(_top(name))
        if own is None or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader and spec.origin:
            spec.loader = own.loader(name, Path(spec.origin))
        return spec


class _PlainFinder:
    """Finds what is asked for by its plain name and is nowhere else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        with _lock:
            any_holds = any(own.holds(name) for own in _known.values())
        if not any_holds:
            return None
        _whose(name).load(name)
        return ModuleSpec(name, _AliasLoader(), is_package=True)


class _AliasLoader(Loader):
    """Makes aliases."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make one."""
        return _Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def _whose(name: str) -> OwnModules:
    """Whose module a plain name means: that of the nearest caller's class, or of the only one.

    Raises:
        ModuleNotFoundError: nobody's, or it can't be told.
    """
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        own = _known.get(_top(str(frame.f_globals.get("__name__"))))
        if own is not None:
            if own.holds(name):
                return own
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        frame = frame.f_back
    with _lock:
        owners = [own for own in _known.values() if own.holds(name)]
    if len(owners) == 1:
        return owners[0]
    several = "several classes of this process have one, and none of them asks" if owners else ""
    raise ModuleNotFoundError(f"No module named {name!r}: {several}".rstrip(": "), name=name)


def _is_installed(top: str) -> bool:
    """Whether Python has a module of this name without any class's folder."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        return not isinstance(loaded, _Alias)
    return top in sys.builtin_module_names or PathFinder.find_spec(top) is not None


def _find_them() -> None:
    """Have Python ask here; again, if somebody has put the list back as it was."""
    if _OwnFinder not in sys.meta_path:
        sys.meta_path.insert(0, _OwnFinder)
    if _PlainFinder not in sys.meta_path:
        sys.meta_path.append(_PlainFinder)


def _top(name: str) -> str:
    return name.partition(".")[0]
