"""What `forebay up` says when it is ready."""

import shlex

import pytest

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.local.welcome import Address, Ready, commands, text

ECHO = ModelSpec(task=Task.ECHO, backend=BackendName.ECHO, name="echo")
EMBEDDER = ModelSpec(task=Task.EMBEDDING, backend=BackendName.ONNX, source="x", name="emb")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("10.1.2.3", "http://10.1.2.3:80"),
    ],
)
def test_the_url_is_one_that_this_machine_can_use(host: str, url: str) -> None:
    assert Address(host, 80).url == url


def test_the_three_commands_use_the_first_model_that_embeds() -> None:
    curl, predict, openai = commands(Ready(Address("127.0.0.1", 80), (ECHO, EMBEDDER), 1.0))
    assert shlex.split(curl)[:2] == ["curl", "http://127.0.0.1:80/v1/embeddings"]
    assert '"model": "emb"' in curl
    assert shlex.split(predict)[1:5] == ["predict", "--url", "http://127.0.0.1:80", "emb"]
    code = shlex.split(openai)[-1]
    compile(code, "snippet", "exec")
    assert "model='emb'" in code


def test_without_a_model_that_embeds_the_commands_do_what_there_is() -> None:
    curl, predict, openai = commands(Ready(Address("127.0.0.1", 80), (ECHO,), 1.0))
    assert "Prefer: wait" in shlex.split(curl)
    assert "http://127.0.0.1:80/v1/predictions" in shlex.split(curl)
    assert "echo" in shlex.split(predict)
    compile(shlex.split(openai)[-1], "snippet", "exec")


def test_where_every_model_is_of_ones_own_the_commands_ask_what_it_takes() -> None:
    own = ModelSpec(task=Task.PYTHON, backend=BackendName.PYTHON, source="m.py:M", name="own")
    curl, check, openai = commands(Ready(Address("127.0.0.1", 80), (own,), 1.0))
    assert shlex.split(curl) == ["curl", "http://127.0.0.1:80/v1/models"]
    assert shlex.split(check)[1:] == ["models", "check", "own"]
    compile(shlex.split(openai)[-1], "snippet", "exec")


def test_the_message_names_url_models_and_time() -> None:
    message = text(Ready(Address("127.0.0.1", 80), (EMBEDDER, ECHO), 1.26))
    assert "http://127.0.0.1:80 after 1.3 s" in message
    assert "Models: emb, echo" in message
    assert "gRPC" not in message


def test_the_message_says_where_grpc_is_spoken() -> None:
    grpc = Address("0.0.0.0", 81)
    message = text(Ready(Address("0.0.0.0", 80), (ECHO,), 1.0, grpc=grpc))
    assert "gRPC (Open Inference Protocol): 127.0.0.1:81" in message


def test_where_keys_are_asked_for_the_commands_send_one_and_say_where_from() -> None:
    ready = Ready(Address("127.0.0.1", 80), (EMBEDDER,), 1.0, asks_for_keys=True)
    curl, predict, openai = commands(ready)
    assert "Authorization: Bearer $FOREBAY_API_KEY" in shlex.split(curl)
    assert "KEY" not in predict  # it reads the variable
    code = shlex.split(openai)[-1]
    compile(code, "snippet", "exec")
    assert "api_key=os.environ['FOREBAY_API_KEY']" in code
    assert "export FOREBAY_API_KEY=$(forebay keys create)" in text(ready)
