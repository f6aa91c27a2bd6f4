"""The build of models that generate text: a source in, a graph with keys and values out.

    source ─▶ words ─▶ graph ─▶ measure
    plain     tokenizer, GenAI's  perplexity beside PyTorch in FP32,
    folder    template,  builder  tokens per second, memory
              ends

`pipeline` runs the steps; `networks` those of what PyTorch or vLLM is to run, which has no graph. A
GGUF file becomes a plain folder first (`gguf_file`); the graph is made by ONNX Runtime GenAI's
model builder in a process of its own (`graph`), and runs in a plain ONNX Runtime session
(`running`), as a worker runs it. Decisions 0037 and 0045 tell why.
"""
