"""What models of an artifact say of themselves, whatever runs them."""

from forebay.contract.manifest import Manifest


class OfArtifact:
    """A model of an artifact.

    Args:
        manifest: the artifact's, already checked.
        threads: threads of one forward pass.
        streams: forward passes that may run at once.
    """

    def __init__(self, manifest: Manifest, *, threads: int, streams: int) -> None:
        self._manifest = manifest
        self._threads = threads
        self._streams = streams

    @property
    def threads(self) -> int:
        """Threads of one forward pass."""
        return self._threads

    @property
    def streams(self) -> int:
        """Forward passes that may run at once: what runs them is safe to run from many threads."""
        return self._streams

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self._manifest.version
