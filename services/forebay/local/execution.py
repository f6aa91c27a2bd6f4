"""Which execution providers this ONNX Runtime has. It is asked in a process of its own."""

import subprocess
import sys

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import BackendName
from forebay.inference.backends import providers
from forebay.runtime.catalog import Catalog

ASK_TIMEOUT_S = 30.0


def available() -> tuple[str, ...]:
    """ONNX Runtime's providers, by its own names; none where it can't be imported."""
    code = "import onnxruntime; print(*onnxruntime.get_available_providers())"
    try:
        told = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(told.stdout.split()) if told.returncode == 0 else ()


def lacking(catalog: Catalog, there: tuple[str, ...]) -> dict[str, str]:
    """Models that ask for a provider which isn't there, and for each what to do."""
    found: dict[str, str] = {}
    for spec in catalog.models.values():
        if spec.backend is not BackendName.ONNX:
            continue
        try:
            providers.check([name for name, _ in spec.onnx.sessions], there)
        except ConfigurationError as error:
            found[spec.name] = error.message
    return found
