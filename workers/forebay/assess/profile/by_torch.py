"""torch's own profiler around whatever runs in this process."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def traced(path: Path) -> Generator[None]:
    """Write what torch runs inside, on the CPU and on a GPU, to `path` in Chrome's format."""
    import torch

    kinds = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds, record_shapes=True) as profiler:
        yield
    profiler.export_chrome_trace(str(path))
