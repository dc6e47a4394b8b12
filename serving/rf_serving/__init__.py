"""Serving layer: gRPC server, retriever stages and index."""
