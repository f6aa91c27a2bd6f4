"""Where a model's time goes: by stage, by kind of operator, by node.

run      batches through a backend, with a profiler around them
trace    operators of a trace in Chrome's format, as ONNX Runtime and torch write one
by_torch     torch's own profiler
by_calls     Python's, for classes of the user's own
"""
