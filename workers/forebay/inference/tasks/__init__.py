"""What a text model does: rows to tokens before the graph runs, values to outputs after it.

    rows ─prepare─▶ token ids ─graph─▶ values ─outputs─▶ outputs

    base                  the protocol, and what is known of a row between the two
    load                  a manifest's task
    text                  one text to token ids, within the limits
    pairs                 two texts to token ids
    embedding             a vector for a text
    classification        labels for a text or a pair of texts; reranking is that of pairs alone
    zero_shot             whether a text entails a hypothesis
    token_classification  labels for parts of a text
    chat                  a chat to the prompt of a model that writes text

Each answers as transformers' pipeline of its name does, without transformers (decision 0021).
"""
