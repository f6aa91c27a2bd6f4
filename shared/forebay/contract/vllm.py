"""How vLLM is to execute a model: `[models.NAME.vllm]`, by vLLM's own names."""

import msgspec


class VllmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Those of vLLM's engine arguments that a table has.

    Attributes:
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs that have some of the layers each.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes, 0..1.
        quantization: what vLLM does to weights as it loads them, such as `fp8`.
        enforce_eager: run without CUDA graphs: ready sooner, and slower.
        enable_prefix_caching: keep what prompts have in common. What was computed in other company
            may differ in its last bits.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    quantization: str | None = None
    enforce_eager: bool = False
    enable_prefix_caching: bool = True

    def wrong(self) -> tuple[str, str] | None:
        """The first field that is out of range, and what it must be."""
        rules = (
            ("tensor_parallel_size", 1 <= self.tensor_parallel_size <= 1_024, "from 1 to 1,024"),
            ("pipeline_parallel_size", 1 <= self.pipeline_parallel_size <= 64, "from 1 to 64"),
            (
                "gpu_memory_utilization",
                0 < self.gpu_memory_utilization <= 1,
                "more than 0, up to 1",
            ),
            ("quantization", self.quantization != "", "a name of vLLM's, or left out"),
        )
        return next(((field, rule) for field, well, rule in rules if not well), None)
