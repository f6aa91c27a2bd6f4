"""Metrics: counted in plain Python, read when somebody asks.

    metric (table.py) ─▶ instrument (instruments.py) ─▶ Registry ─ scrape ─▶ text (exposition.py)
                             ▲ `add`, `record`: under 1 us          ▲ `endpoint.py`, or the gateway

An instrument of OpenTelemetry takes 6 us a call, which is more than all else that is counted of a
request together. Here names, kinds and units are OpenTelemetry's, and counting is a dictionary.
Nothing outside the standard library is needed. Decision 0075.
"""

from forebay.runtime.metrics.exposition import CONTENT_TYPE, text_of
from forebay.runtime.metrics.instruments import Counter, Histogram, Kind, Metric, Registry

__all__ = ["CONTENT_TYPE", "Counter", "Histogram", "Kind", "Metric", "Registry", "text_of"]
