"""Text that grows token by token: many requests side by side, joining and leaving between steps.

    lanes ──▶ stages ──▶ flow ──submit, cancel──▶ engine, on a thread of its own
                          ▲                           │ step
                          └────── deltas ─────────────┘
              chunks ──▶ events of each prediction, and one message a gateway

protocol   what generates text, as the worker sees it
flow       between the worker's stages and an engine
speaker    hands over chunks, once a step
echo       generates the prompt again, word by word

A model's own engine, of prompts and what runs it (decision 0038):

    prompts ──▶ continuous ──▶ slots, waiting   who has room, who is next
                    │  ▲
              tokens▼  │logits
                   session ──▶ pool             keys and values of all slots, in one place:
                    │           └─▶ memory, device   the machine's, or a device's by its copies
                    │
                    ▼
                 stream ──▶ sampling ──▶ writer ──▶ text

Drafts of what a text goes on with, checked several tokens at once (decision 0042):

    drafting ──▶ trial                          whether checks are exact here, and what they cost
        │
        ▼
    checking ──▶ worth, drafts, draft_model     whose tokens, how many, which
        │
        └─▶ continuous ──▶ session ──▶ mirror   one slot's memory as several rows

model       an artifact that generates
onnx        by a graph; torch: by a network of PyTorch
decoding    what the loop runs, as it sees it
prompts     rows to token ids
floor       what is due to texts that nobody waits for
reserve     what all slots come to, in memory
continuous  the loop: a token of each text a step, and parts of prompts
stream      one text as it grows
sampling    the next token of each row; penalties, draws
grammar     texts that are held to a form, and calls of tools
writer      tokens to text: detokenize, vocabulary, stop

An engine that others make (decision 0046):

vllm         a model that vLLM generates with
vllm_engine  its engine behind ours; served: what is used of it
"""
