"""Bearer tokens with the roles of their callers. The file holds hashes only."""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe

from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_platform.files import new_file
from rf_platform.locks import claimed
from rf_serving.server.rpc import Role

_PREFIX = "rf_"
_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token, without itself."""

    name: str
    """Name of the caller; appears in log lines."""
    role: Role
    sha256: str
    """Of the token, in hex; 256 random bits need no salt."""
    created_at: str


def read_tokens(path: Path) -> list[Token]:
    """Read a tokens file.

    Raises:
        ConfigError: it cannot be read, or is no tokens file.
    """
    try:
        rows = json.loads(path.read_text())["tokens"]
        tokens = [Token(**{**row, "role": Role[row["role"].upper()]}) for row in rows]
        for token in tokens:
            if len(bytes.fromhex(token.sha256)) != 32:
                raise ValueError(f"the sha256 of '{token.name}' is not one")
    except OSError as error:
        raise ConfigError(
            f"the tokens file {path} cannot be read: {error.strerror}; make one with `rf token add NAME --role read "
            f"--tokens {path}`"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no tokens file ({type(error).__name__}: {error}); restore it, or move it away and make a new one with "
            f"`rf token add`"
        ) from error
    return tokens


def write_tokens(path: Path, tokens: Iterable[Token]) -> None:
    """Replace a tokens file as a whole; only its owner may read it."""
    rows = [{**asdict(token), "role": token.role.name.lower()} for token in tokens]
    with new_file(path) as file:
        file.chmod(0o600)
        file.write_text(json.dumps({"tokens": rows}, indent=2) + "\n")


def _changing(path: Path) -> AbstractContextManager[bool]:
    """Let one process at a time read a tokens file and write it anew."""
    return claimed(path.with_name(f".{path.name}.lock"), wait=True)


def add_token(path: Path, name: str, role: Role) -> str:
    """Add a token to a file, which is made if need be, and return it: it is nowhere else.

    Raises:
        UsageError: the name is taken or empty.
        ConfigError: the file is no tokens file.
    """
    if not name:
        raise UsageError("the name of a token must not be empty")
    secret = _PREFIX + token_urlsafe(_BYTES)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    with _changing(path):
        tokens = read_tokens(path) if path.exists() else []
        if any(token.name == name for token in tokens):
            raise UsageError(
                f"a token for '{name}' is in {path} already; remove it with `rf token remove {name}`, or choose another name"
            )
        write_tokens(path, [*tokens, Token(name=name, role=role, sha256=digest(secret), created_at=created_at)])
    return secret


def remove_token(path: Path, name: str) -> None:
    """Remove a token from a file; running servers refuse it within a second.

    Raises:
        NotFoundError: there is none of this name.
        ConfigError: the file cannot be read.
    """
    read_tokens(path)  # before anything is made beside it
    with _changing(path):
        tokens = read_tokens(path)
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            names = ", ".join(token.name for token in tokens) or "none"
            raise NotFoundError(f"no token for '{name}' in {path}; it has {names}")
        write_tokens(path, kept)


def digest(secret: str) -> str:
    """Return what is stored of a token."""
    return sha256(secret.encode()).hexdigest()


def find_token(tokens: Iterable[Token], secret: str) -> Token | None:
    """Return the token that a caller has shown; takes as long for a wrong one as for a right one."""
    shown = digest(secret)
    found = None
    for token in tokens:
        if compare_digest(token.sha256, shown):
            found = token
    return found
