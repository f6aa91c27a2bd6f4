"""Sources that become an ONNX file by a converter of their own kind.

    archive      a TorchScript file, looked at before anything of it is loaded
    folder       a SavedModel, likewise
    convert      asks for a conversion, and holds its result against the source's own answers
    process      ──Order──▶ `python -m forebay.build.conversion.process` ──▶ graph, cases
    torchscript  in that process: torch.jit and PyTorch's older exporter
    saved_model  in that process: TensorFlow and tf2onnx
    cases        inputs that the source has been run on, with what it gave

Conversion has a process of its own: TensorFlow and PyTorch don't meet in one, a file that crashes
its loader takes nothing with it, and what a converter prints or sets is gone when it ends (decision
0034).
"""
