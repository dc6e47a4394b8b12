"""The gRPC server around the retriever."""
