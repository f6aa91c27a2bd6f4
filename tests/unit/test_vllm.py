"""What vLLM is asked, and what is made of what it answers; its own types where it is installed."""

from collections.abc import Mapping

import msgspec
import pytest

from forebay.contract.errors import ConfigurationError
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.rows import Task
from forebay.contract.vllm import VllmOptions
from forebay.inference.generation.load import import_libraries
from forebay.inference.generation.sampling import Chosen
from forebay.inference.generation.vllm_engine import chosen, parameters
from tests.fixtures.engines import VLLM

EVERYTHING = Sampling(
    max_tokens=9,
    temperature=0.7,
    top_p=0.9,
    top_k=20,
    min_p=0.05,
    repetition_penalty=1.2,
    presence_penalty=0.5,
    frequency_penalty=-0.5,
    logit_bias=((7, -100.0), (9, 1.5)),
    seed=3,
    stop=("weir",),
    logprobs=4,
)


def told(sampling: Sampling, *, row: int = 0) -> dict[str, object]:
    return parameters(sampling, row=row, end_ids=(2, 1), max_tokens=9)


def test_a_request_is_told_in_vllms_words() -> None:
    assert told(EVERYTHING) == {
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {7: -100.0, 9: 1.5},
        "seed": 3,
        "logprobs": 4,
        "ignore_eos": False,
        "stop_token_ids": [1, 2],
        "detokenize": False,
    }


def test_what_says_nothing_is_left_to_vllm() -> None:
    asked = told(Sampling())
    assert "seed" not in asked
    assert "logit_bias" not in asked
    assert asked["logprobs"] is None


def test_no_probability_at_all_leaves_the_likeliest_token() -> None:
    asked = told(Sampling(top_p=0.0))
    assert (asked["top_p"], asked["top_k"]) == (1.0, 1)
    assert told(Sampling(temperature=1e-6))["temperature"] == 0.0


def test_rows_of_one_seed_have_seeds_of_their_own_that_vllm_takes() -> None:
    largest = 2**63 - 1
    for seed in (0, -1, largest, -(2**63)):
        seeds = [told(Sampling(seed=seed), row=row)["seed"] for row in range(4)]
        assert len(set(seeds)) == 4
        assert all(isinstance(one, int) and 0 <= one <= largest for one in seeds)
    assert told(Sampling(seed=5))["seed"] == told(Sampling(seed=5))["seed"]


def test_a_text_that_ignores_its_end_is_told_of_none() -> None:
    asked = told(Sampling(ignore_end=True))
    assert (asked["ignore_eos"], asked["stop_token_ids"]) == (True, [])


@pytest.mark.skipif(not VLLM, reason="vLLM is not installed")
@pytest.mark.parametrize("sampling", [Sampling(), EVERYTHING, Sampling(temperature=0, top_p=0)])
def test_vllms_own_parameters_take_them(sampling: Sampling) -> None:
    kinds = pytest.importorskip("vllm.sampling_params")
    made = kinds.SamplingParams(**told(sampling))
    assert made.max_tokens == 9


class Probability(msgspec.Struct, frozen=True):
    logprob: float


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (None, Chosen(5)),
        (0, Chosen(5, -2.0)),
        (1, Chosen(5, -2.0, ((8, -0.5),))),
        (3, Chosen(5, -2.0, ((8, -0.5), (3, -1.0), (5, -2.0)))),
    ],
)
def test_tokens_are_told_with_as_many_likely_ones_as_were_asked_for(
    most: int | None, expected: Chosen
) -> None:
    # vLLM tells of the chosen token too, however unlikely it was.
    answer: Mapping[int, Probability] = {
        5: Probability(-2.0),
        8: Probability(-0.5),
        3: Probability(-1.0),
    }
    assert chosen(5, answer, most) == expected


@pytest.mark.skipif(VLLM, reason="vLLM is installed")
def test_where_vllm_is_missing_it_is_said_how_to_get_it() -> None:
    with pytest.raises(ConfigurationError, match=r"needs vllm: run `pip install 'forebay\[vllm\]'"):
        import_libraries(BackendName.VLLM)


def spec(**fields: object) -> ModelSpec:
    made: dict[str, object] = {"precision": Precision.BF16, "source": "folder", **fields}
    return ModelSpec(Task.GENERATION, BackendName.VLLM, **made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (VllmOptions(tensor_parallel_size=0), "vllm.tensor_parallel_size"),
        (VllmOptions(pipeline_parallel_size=0), "vllm.pipeline_parallel_size"),
        (VllmOptions(gpu_memory_utilization=0), "vllm.gpu_memory_utilization"),
        (VllmOptions(quantization=""), "vllm.quantization"),
    ],
)
def test_an_option_out_of_range_is_named(wrong: VllmOptions, field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"models\.large\.{field}: must be"):
        checked(spec(vllm=wrong), "large")


def test_what_vllm_does_not_do_is_refused_by_name() -> None:
    assert checked(spec(generation=GenerationTable(slots=64)), "large").name == "large"
    with pytest.raises(ConfigurationError, match=r"precision: must be one that.*bf16, fp16, fp32"):
        checked(spec(precision=Precision.INT4), "large")
    classifier = msgspec.structs.replace(spec(), task=Task.CLASSIFICATION)
    with pytest.raises(ConfigurationError, match="backend: must be 'onnx' or 'torch'"):
        checked(classifier, "large")
    onnx = ModelSpec(
        Task.GENERATION,
        BackendName.ONNX,
        source="folder",
        precision=Precision.INT4,
        vllm=VllmOptions(tensor_parallel_size=2),
    )
    with pytest.raises(ConfigurationError, match="vllm: must be left out"):
        checked(onnx, "small")
