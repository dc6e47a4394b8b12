"""Host and port as one address."""


def joined(host: str, port: int) -> str:
    """Return ``host:port``; an IPv6 host, with or without brackets, gets brackets: ``[::1]:50051``."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
