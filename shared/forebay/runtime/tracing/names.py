"""Names of what spans say: OpenTelemetry's semantic conventions, and Forebay's own.

Those of messaging (experimental) and generative AI (in development) are pinned here, as of semantic
conventions 1.38; a test compares them with `opentelemetry-semantic-conventions`.
"""

from typing import Final

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
URL_FULL: Final = "url.full"
ERROR_TYPE: Final = "error.type"

RPC_SYSTEM: Final = "rpc.system"
RPC_SERVICE: Final = "rpc.service"
RPC_METHOD: Final = "rpc.method"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_KIND: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_MESSAGE: Final = "messaging.message.id"
MESSAGING_COUNT: Final = "messaging.batch.message_count"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_MODEL: Final = "gen_ai.request.model"
GEN_AI_INPUT: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT: Final = "gen_ai.usage.output_tokens"

SYSTEM: Final = "forebay"
"""`messaging.system`: the lanes."""

PART: Final = "forebay.part"
ATTEMPT: Final = "forebay.attempt"
OUTCOME: Final = "forebay.outcome"
CACHE: Final = "forebay.cache"
REQUEST: Final = "forebay.request.id"
VERSION: Final = "forebay.version"
BATCH_ROWS: Final = "forebay.batch.rows"
BATCH_LENGTH: Final = "forebay.batch.length"
QUEUE_MS: Final = "forebay.queue_ms"
WAIT_MS: Final = "forebay.batch_wait_ms"
COMPUTE_MS: Final = "forebay.compute_ms"
REPLY_MS: Final = "forebay.reply_ms"
