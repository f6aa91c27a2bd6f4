"""The end of a batch: its files, made of segments."""

from collections.abc import Sequence

from forebay.contract.batches import Batch
from forebay.contract.files import Purpose, Terms
from forebay.records.batch_leases import FileIds, Progress
from forebay.storage.file_records import Files
from forebay.storage.segments import Segments


def make_files(files: Files, batch: Batch, ids: FileIds, progress: Progress) -> tuple[bool, bool]:
    """Make the files of a batch, or find that they are made. Blocks.

    Args:
        files: where.
        batch: whose.
        ids: that were chosen for them.
        progress: which segments count.

    Returns:
        Whether there is a file of answers, and one of errors.

    Raises:
        Unavailable: the file store is out of reach, or full.
    """

    def made(file_id: str, kind: str, indices: Sequence[int]) -> bool:
        terms = Terms(
            filename=f"{batch.id}_{kind}.jsonl",
            purpose=Purpose.BATCH_OUTPUT,
            media_type="application/jsonl",
            expires_after_s=batch.request.output_expires_after_s,
        )
        return Segments(files, file_id).join(terms, indices=indices) is not None

    return made(ids.out, "output", progress.out), made(ids.err, "error", progress.err)
