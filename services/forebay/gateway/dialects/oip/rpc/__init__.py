"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`.

    server     the port, its start and its drain
    service    the methods, and how an error looks
    tensors    messages into tensors, and back
    messages   messages that describe: metadata, configurations, statistics
    wire/      the messages themselves, generated

Only what serves gRPC imports this package: grpc and protobuf cost 0.1 s and 10 MB.
"""
