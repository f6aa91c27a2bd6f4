# /// script
# requires-python = ">=3.11"
# dependencies = ["transformers[serving]"]
#
# [tool.bench]
# title = "transformers serve (FP32)"
# apps = ["smollm2"]
# path = "/v1/chat/completions"
# dialect = "openai"
# redis = false
# environment = "transformers"
# commands = [
#   """transformers serve {weights} --device cpu --dtype float32 --host 127.0.0.1 --port {port} \
#      --log-level error""",
# ]
# ///
"""`transformers serve`, as its documentation starts it: OpenAI's chats, one after the other.

It does not run the same artifact: PyTorch on the FP32 weights that the artifact was made of.
"""
