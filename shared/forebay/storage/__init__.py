"""Files and artifacts, through fsspec."""
