# /// script
# requires-python = ">=3.11"
# dependencies = ["infinity-emb[torch,server]"]
#
# [tool.bench]
# title = "infinity-emb (torch, FP32)"
# apps = ["minilm"]
# path = "/embeddings"
# dialect = "openai"
# redis = false
# environment = "infinity"
# least_cosine = 0.95
# commands = [
#   """infinity_emb v2 --model-id {weights} --served-model-name minilm --engine torch --device cpu \
#      --dtype float32 --batch-size {max_rows} --no-bettertransformer --host 127.0.0.1 \
#      --port {port} --log-level warning""",
# ]
# ///
"""infinity-emb: an embedding server with an engine of its own, started as its documentation shows.

It does not run the same artifact, which its title says: PyTorch on the FP32 weights that the
artifact was made of. Its ONNX engine takes graphs that give every token's state and pools them
itself, and the artifact gives an embedding. It sorts its queue by length, and PyTorch has as many
threads as there are cores. BetterTransformer is off: it went with the releases of transformers that
this one takes.
"""
