"""Text that grows token by token: many requests side by side, joining and leaving between steps.

    lanes ──▶ stages ──▶ flow ──submit, cancel──▶ engine, on a thread of its own
                          ▲                           │ step
                          └────── deltas ─────────────┘
              chunks ──▶ events of each prediction, and one message a gateway

protocol   what generates text, as the worker sees it
flow       between the worker's stages and an engine
speaker    hands over chunks, once a step
echo       generates the prompt again, word by word

A model's own engine, of prompts and a graph (decision 0038):

    prompts ──▶ continuous ──▶ slots, waiting   who has room, who is next
                    │  ▲
              tokens▼  │logits
                   session ──▶ pool             keys and values of all slots, in one place
                    │
                    ▼
                 stream ──▶ sampling ──▶ writer ──▶ text

model       an artifact that generates
prompts     rows to token ids
continuous  the loop: a token of each text a step, and parts of prompts
stream      one text as it grows
sampling    the next token of each row; penalties, draws
grammar     texts that are held to a form, and calls of tools
writer      tokens to text: detokenize, vocabulary, stop
"""
