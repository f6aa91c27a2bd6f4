"""`/v1/responses`: texts that are kept, gone on with, made in the background and read again.

    terms          what a request says, and what is known and not there
    forms          what an answer is held to, and what it may call
    given          a conversation's items as clients send them
    items          the same as they are told
    conversation   what is kept of a request, in its prediction
    rendering      a response as it is told
    events         the shapes of events
    telling        a response as events: their numbers follow from its chunks
    reading        from a prediction that grows to events
    endpoint       make, show, cancel, delete

A response is a prediction: `resp_` and the prediction's id. Nothing else is stored for it.

https://platform.openai.com/docs/api-reference/responses
"""

from forebay.gateway.dialects.openai.responses.endpoint import Responses

__all__ = ["Responses"]
