"""The build: a model's source in, an artifact out. Torch lives here and nowhere that serves.

    source ─▶ layout ─▶ export ─▶ (cut ─▶ distill) ─▶ (prune) ─▶ precision ─▶ (fuse) ─▶ evaluate
    weights   limits    FP32       a smaller           zeros      half, or       one      what
    found     pooling   graph      student                        quantize,      operator ships,
    and hashed, labels                                            smooth, mix             and fast

`pipeline` finds what makes a kind of model's draft, holds it against the bars (`bars`), publishes
it. `text_models` runs the steps for text models; what differs between those is in `embedder`, whose
folder is read by `layout`, and in `classifier`, whose folder is read by `heads` (decision 0021).
Each step is measured by `gauge`, on texts by which nothing is chosen; what is chosen, is by
`trial`, on others (decision 0026). A result under the bar is refused, and what was published before
stays current (decisions 0005 and 0006).

Models that take no text go through `graphs`: ONNX files by `onnx_file` and `probe`, folders of
image classifiers by `image_source` and `image_classifier` (decision 0025), TorchScript files and
SavedModels by `conversion` (decision 0034). Models that generate text have a package of their own,
`decoders` (decision 0037).
"""
