"""gRPC over HTTP/2 on an asyncio event loop: connections, flow control, limits, and calls as one object each.

Knows no service: an :class:`~rf_serving.front.application.Application` is given calls with their messages, and answers them.
RFC 9113 (HTTP/2), RFC 7541 (HPACK) and gRPC's "PROTOCOL-HTTP2.md" are what the names refer to.
"""
