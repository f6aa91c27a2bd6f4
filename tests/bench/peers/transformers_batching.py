# /// script
# requires-python = ">=3.11"
# dependencies = ["transformers[serving]"]
#
# [tool.bench]
# title = "transformers serve, continuous batching (FP32)"
# apps = ["smollm2"]
# path = "/v1/chat/completions"
# dialect = "openai"
# redis = false
# extra = true
# environment = "transformers"
# commands = [
#   """transformers serve {weights} --device cpu --dtype float32 --host 127.0.0.1 --port {port} \
#      --log-level error --continuous-batching --cb-max-memory-percent 0.1""",
# ]
# ///
"""`transformers serve` with continuous batching, which its documentation advises for throughput.

It sizes its cache by the memory there is, of which it gets a tenth here.
"""
