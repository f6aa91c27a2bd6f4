# /// script
# requires-python = ">=3.11"
# dependencies = ["ray[serve]", "numpy", "onnxruntime", "tokenizers"]
#
# [tool.bench]
# title = "Ray Serve at its best"
# apps = ["minilm"]
# path = "/"
# redis = false
# extra = true
# environment = "serving"
# commands = ["python ray_best.py {port}"]
# ///
"""Ray Serve with a replica a core, one thread each, and its user's code for sorting.

One replica with all threads, three with one each, and none that sorts do less.
"""

import os

from ray_server import Embed, run

if __name__ == "__main__":
    replicas = int(os.environ["BENCH_THREADS"])
    deployment = Embed.options(num_replicas=replicas, ray_actor_options={"num_cpus": 0})
    run(deployment.bind(threads=1, is_sorted=True))
