"""Makes the Python modules of the protocol's messages anew; run by `make proto`.

    python infra/proto.py [FOLDER]

They go beside the `.proto`, or into a folder, under the same path. They need the protobuf that the
generator is of, or a newer one: pyproject.toml says which.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "services"
PROTOS = (
    "forebay/gateway/dialects/oip/rpc/wire/open_inference.proto",
    "forebay/autoscaler/keda/wire/external_scaler.proto",
)


def main() -> None:
    """Generate."""
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES)


def generate(folder: Path) -> None:
    """Write the modules.

    Args:
        folder: where the namespace's root is.
    """
    subprocess.run(  # noqa: S603 - our own environment's generator
        [
            sys.executable,
            *("-m", "grpc_tools.protoc"),
            f"-I{SOURCES}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            *PROTOS,
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
