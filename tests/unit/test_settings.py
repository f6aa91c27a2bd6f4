"""The layers of the settings."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from forebay.contract.errors import ConfigurationError
from forebay.runtime.settings import Durability, Settings, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origin(
    field: str,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> tuple[object, str]:
    told = load(environ=environ or {}, flags=flags)
    found = next(o for o in told.origins if o.field == field)
    assert found.value == getattr(told.settings, field)
    return found.value, found.source


def test_without_anything_set_all_is_default() -> None:
    told = load(environ={})
    assert told.settings == Settings()
    assert {o.source for o in told.origins} == {"default"}


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(folder: Path) -> None:
    assert origin("port") == (8000, "default")
    (folder / "forebay.toml").write_text("port = 1\n")
    assert origin("port") == (1, "forebay.toml")
    environ = {"FOREBAY_PORT": "2"}
    assert origin("port", environ=environ) == (2, "FOREBAY_PORT")
    assert origin("port", environ=environ, flags={"port": 3}) == (3, "--port")
    assert origin("port", environ=environ, flags={"port": None}) == (2, "FOREBAY_PORT")


def test_an_empty_variable_counts_as_unset() -> None:
    assert origin("port", environ={"FOREBAY_PORT": ""}) == (8000, "default")


def test_values_from_the_environment_get_their_types() -> None:
    told = load(
        environ={
            "FOREBAY_DURABILITY": "memory",
            "FOREBAY_SYNC_WAIT_S": "1.5",
            "FOREBAY_MAX_INPUTS": "7",
            "FOREBAY_REDIS_URL": "redis://h",
        }
    ).settings
    assert told.durability is Durability.MEMORY
    assert (told.sync_wait_s, told.max_inputs, told.redis_url) == (1.5, 7, "redis://h")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FOREBAY_PORT", "0"),
        ("FOREBAY_PORT", "65536"),
        ("FOREBAY_PORT", "http"),
        ("FOREBAY_LEASE_S", "0"),
        ("FOREBAY_LEASE_S", "-1"),
        ("FOREBAY_LEASE_S", "nan"),
        ("FOREBAY_LEASE_S", "inf"),
        ("FOREBAY_MAX_INPUTS", "0"),
        ("FOREBAY_DURABILITY", "paper"),
        ("FOREBAY_KEY_PREFIX", "a{b}"),
        ("FOREBAY_KEY_PREFIX", "a:b"),
        ("FOREBAY_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_with_the_place_where_it_was_set(
    variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ={variable: value})
    field = variable.removeprefix("FOREBAY_").lower()
    assert caught.value.message.startswith(f"{variable} sets {field} to {value!r}: ")


def test_a_misspelt_name_is_refused_in_the_file_and_among_flags(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--prot sets 'prot', which is no setting"):
        load(environ={}, flags={"prot": 1})
    (folder / "forebay.toml").write_text("prot = 1\n")
    with pytest.raises(ConfigurationError, match=r"forebay\.toml sets 'prot'"):
        load(environ={})


def test_another_file_can_be_named_and_must_then_exist(folder: Path) -> None:
    (folder / "mine.toml").write_text('host = "0.0.0.0"\n')
    environ = {"FOREBAY_CONFIG": str(folder / "mine.toml")}
    assert origin("host", environ=environ) == ("0.0.0.0", str(folder / "mine.toml"))
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(environ={"FOREBAY_CONFIG": str(folder / "none.toml")})


def test_a_file_that_is_no_toml_is_refused(folder: Path) -> None:
    (folder / "forebay.toml").write_text("port = \n")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load(environ={})


def test_every_setting_is_described_in_one_line() -> None:
    origins = load(environ={}).origins
    assert [o.field for o in origins] == [f.name for f in msgspec.structs.fields(Settings)]
    assert [o.field for o in origins if not o.description or "\n" in o.description] == []


def test_settings_can_not_be_changed_once_read() -> None:
    with pytest.raises(AttributeError):
        load(environ={}).settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("FOREBAY_REDIS_URI", "FOREBAY_REDIS_URL"), ("FOREBAY_LOGLEVEL", "FOREBAY_LOG_LEVEL")],
)
def test_a_misspelt_variable_is_refused_with_what_may_be_meant(variable: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} is no setting. Is {meant} meant"):
        load(environ={variable: "anything"})


def test_variables_that_kubernetes_makes_of_a_services_name_are_let_pass() -> None:
    made = ("FOREBAY_SERVICE_HOST", "FOREBAY_SERVICE_PORT", "FOREBAY_PORT_8000_TCP_ADDR")
    assert load(environ=dict.fromkeys(made, "10.0.0.1")).settings == Settings()
