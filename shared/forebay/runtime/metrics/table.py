"""Every metric there is: its name, kind, unit and labels. docs/observability.md says the same.

Where OpenTelemetry's semantic conventions have a metric, it is that one; else it is `forebay.*`.
"""

from typing import Final

from forebay.runtime.metrics.instruments import Kind, Metric

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""From a lone request on the path alone to the longest that a gateway waits."""

TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

REQUEST_DURATION: Final = Metric(
    "forebay.request.duration",
    Kind.HISTOGRAM,
    "s",
    ("dialect", "model", "lane", "outcome"),
    "From a request's head to the end of its answer, at the gateway",
    SECONDS,
)
REQUEST_ACTIVE: Final = Metric(
    "forebay.request.active",
    Kind.UP_DOWN_COUNTER,
    "{request}",
    ("dialect",),
    "Requests that are being answered",
)
ENQUEUED: Final = Metric(
    "forebay.enqueue.predictions",
    Kind.COUNTER,
    "{prediction}",
    ("model", "lane", "outcome"),
    "Predictions brought to a lane, by what became of them: joined ones share another's work, full "
    "is a refusal",
)
CACHE_ROWS: Final = Metric(
    "forebay.cache.rows",
    Kind.COUNTER,
    "{row}",
    ("model", "tier"),
    "Rows looked up in the cache, by what answered: near, far or alike; else missed or unreadable",
)

QUEUE_WAIT: Final = Metric(
    "forebay.queue.wait",
    Kind.HISTOGRAM,
    "s",
    ("model", "lane"),
    "From enqueue until a worker held it",
    SECONDS,
)
BATCH_WAIT: Final = Metric(
    "forebay.batch.wait",
    Kind.HISTOGRAM,
    "s",
    ("model", "lane"),
    "From then until its first micro-batch began",
    SECONDS,
)
BATCH_DURATION: Final = Metric(
    "forebay.batch.duration",
    Kind.HISTOGRAM,
    "s",
    ("model",),
    "What a micro-batch took; of a text, from when it was taken up to its end",
    SECONDS,
)
BATCH_ROWS: Final = Metric(
    "forebay.batch.rows", Kind.HISTOGRAM, "{row}", ("model",), "Rows in a micro-batch", ROWS
)
BATCH_LENGTH: Final = Metric(
    "forebay.batch.length",
    Kind.COUNTER,
    "{token}",
    ("model", "use"),
    "Tokens, or whatever the backend pads, that micro-batches had: of rows, or padding",
)
RATE: Final = Metric(
    "forebay.worker.rate",
    Kind.GAUGE,
    "{row}/s",
    ("model",),
    "Rows a second that a replica works off while it has any",
)
LEASES: Final = Metric(
    "forebay.worker.leases",
    Kind.UP_DOWN_COUNTER,
    "{lease}",
    ("model", "lane"),
    "What a worker has leased and not settled",
)
DELIVERIES: Final = Metric(
    "forebay.worker.deliveries",
    Kind.COUNTER,
    "{delivery}",
    ("model", "lane"),
    "Leases that a worker has begun",
)
SETTLED: Final = Metric(
    "forebay.worker.settled",
    Kind.COUNTER,
    "{delivery}",
    ("model", "lane", "status"),
    "Leases settled, by how they ended; late are those whose end nobody took",
)
DEAD_LETTERS: Final = Metric(
    "forebay.worker.dead_letters",
    Kind.COUNTER,
    "{delivery}",
    ("model",),
    "Leases that became dead letters",
)
TOKENS: Final = Metric(
    "forebay.generation.tokens",
    Kind.COUNTER,
    "{token}",
    ("model", "direction"),
    "Tokens of texts that have ended: input or output",
)
FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    Kind.HISTOGRAM,
    "s",
    ("model",),
    "From when a worker took a row up to its first token",
    TOKEN_SECONDS,
)
TOKEN_TIME: Final = Metric(
    "gen_ai.server.time_per_output_token",
    Kind.HISTOGRAM,
    "s",
    ("model",),
    "Between two tokens, on average of a text",
    TOKEN_SECONDS,
)
SLOTS: Final = Metric(
    "forebay.generation.slots",
    Kind.UP_DOWN_COUNTER,
    "{slot}",
    ("model", "state"),
    "Slots of an engine: those there are, and rows that have one or wait for one",
)

LANE_BACKLOG: Final = Metric(
    "forebay.lane.backlog",
    Kind.UP_DOWN_COUNTER,
    "{row}",
    ("model", "lane"),
    "Rows on a lane, those being worked on included, as the autoscaler saw last",
)
REPLICAS: Final = Metric(
    "forebay.replicas",
    Kind.UP_DOWN_COUNTER,
    "{replica}",
    ("model", "state"),
    "Replicas as the autoscaler wants them, has started them, and sees them present",
)
WEBHOOK_ATTEMPTS: Final = Metric(
    "forebay.webhook.attempts",
    Kind.COUNTER,
    "{attempt}",
    ("outcome",),
    "Attempts to deliver a webhook, by what the delivery was then",
)

PROCESS_CPU: Final = Metric(
    "process.cpu.time", Kind.COUNTER, "s", ("mode",), "CPU that this process took"
)
PROCESS_MEMORY: Final = Metric(
    "process.memory.usage", Kind.UP_DOWN_COUNTER, "By", (), "Memory of this process that is in RAM"
)

GATEWAY: Final = (REQUEST_DURATION, REQUEST_ACTIVE, ENQUEUED, CACHE_ROWS)
WORKER: Final = (
    *(QUEUE_WAIT, BATCH_WAIT, BATCH_DURATION, BATCH_ROWS, BATCH_LENGTH, RATE, LEASES, DELIVERIES),
    *(SETTLED, DEAD_LETTERS, TOKENS, FIRST_TOKEN, TOKEN_TIME, SLOTS),
)
AUTOSCALER: Final = (LANE_BACKLOG, REPLICAS)
BACKGROUND: Final = (WEBHOOK_ATTEMPTS,)
PROCESS: Final = (PROCESS_CPU, PROCESS_MEMORY)

METRICS: Final = (*GATEWAY, *WORKER, *AUTOSCALER, *BACKGROUND, *PROCESS)
