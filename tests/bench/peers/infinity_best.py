# /// script
# requires-python = ">=3.11"
# dependencies = ["infinity-emb[torch,server]"]
#
# [tool.bench]
# title = "infinity-emb at its best (torch, FP32)"
# apps = ["minilm"]
# path = "/embeddings"
# dialect = "openai"
# redis = false
# extra = true
# environment = "infinity"
# least_cosine = 0.95
# commands = [
#   """infinity_emb v2 --model-id {weights} --served-model-name minilm --engine torch --device cpu \
#      --dtype float32 --batch-size 8 --no-bettertransformer --host 127.0.0.1 \
#      --port {port} --log-level warning""",
# ]
# ///
"""infinity-emb with the batch size found to be best of 8, 32 and 64; else as `infinity_server`."""
