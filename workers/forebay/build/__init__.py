"""The build: a model's source in, an artifact out. Torch lives here and nowhere that serves.

    source ─▶ layout ─▶ export ─▶ calibrate ─▶ quantize ─▶ evaluate ─▶ publish
    weights   limits    FP32      peaks, the   W8A8, one   against
    found     pooling   graph     smoothing    scale a     FP32
    and hashed, labels                         token

`pipeline` runs the steps in order; `embedder` and `classifier` do their own way what differs: an
embedder's folder is read by `layout`, a classifier's by `heads` (decision 0021). A result under
the bar is refused, and what was published before stays current (decisions 0005 and 0006).

Models that take no text go through `graphs`: ONNX files by `onnx_file` and `trial`, folders of
image classifiers by `image_source` and `image_classifier` (decision 0025).
"""
