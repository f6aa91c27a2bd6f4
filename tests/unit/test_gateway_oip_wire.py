"""gRPC's generated messages: as the generator makes them, and as the protocol has them."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WIRE = Path("forebay", "gateway", "dialects", "oip", "rpc", "wire")
KEDA = Path("forebay", "autoscaler", "keda", "wire")


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="needs grpcio-tools")
def test_what_is_generated_is_what_make_proto_makes(tmp_path: Path) -> None:
    script = ROOT / "infra" / "proto.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for folder, name in ((WIRE, "open_inference"), (KEDA, "external_scaler")):
        for made in (folder / f"{name}_pb2.py", folder / f"{name}_pb2.pyi"):
            kept = (ROOT / "services" / made).read_text("utf-8")
            assert (tmp_path / made).read_text("utf-8") == kept, "run `make proto`"


def fields(message: Any) -> dict[str, tuple[int, int, bool]]:
    """Number, type and kind of each field."""
    return {field.name: (field.number, field.type, field.is_repeated) for field in message.fields}


def test_every_field_has_the_name_number_and_type_that_tritons_client_knows() -> None:
    from tritonclient.grpc import model_config_pb2, service_pb2

    from forebay.gateway.dialects.oip.rpc.wire import open_inference_pb2

    theirs = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }

    def compare(ours: Any, their: Any) -> None:
        known = fields(their)
        assert fields(ours).items() <= known.items(), ours.name
        for name, nested in ours.nested_types_by_name.items():
            compare(nested, their.nested_types_by_name[name])

    messages = open_inference_pb2.DESCRIPTOR.message_types_by_name
    assert len(messages) > 30
    for name, message in messages.items():
        compare(message, theirs[name])
    ours = open_inference_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
    their = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
    assert [(value.name, value.number) for value in ours.values] == [
        (value.name, value.number) for value in their.values
    ]


def test_a_gateway_without_grpc_imports_none_of_it() -> None:
    program = (
        "import sys, forebay.gateway.app;"
        "tops = {name.split('.')[0] for name in sys.modules};"
        "print(*(tops & {'grpc', 'google', 'numpy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
