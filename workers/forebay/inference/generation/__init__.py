"""Text that grows token by token: many requests side by side, joining and leaving between steps.

    lanes ──▶ stages ──▶ flow ──submit, cancel──▶ engine, on a thread of its own
                          ▲                           │ step
                          └────── deltas ─────────────┘
              chunks ──▶ events of each prediction, and one message a gateway

protocol   what generates text, as the worker sees it
flow       between the worker's stages and an engine
speaker    hands over chunks, once a step
echo       generates the prompt again, word by word
"""
