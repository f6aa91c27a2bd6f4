"""Artifacts, which are folders of the local disk, and files, wherever fsspec can put them."""
