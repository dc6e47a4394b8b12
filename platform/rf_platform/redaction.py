"""Secrets of settings, kept out of what is printed and logged: passwords of URLs, and the token of a client.

Messages of ours leave them out by themselves (:func:`without_password`). Those of libraries may quote a part of a URL that they
could not read: so whatever leaves the process passes :func:`without_secrets`.
"""

import os
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

_SHORTEST = 5
"""Shorter passwords are left alone: their letters are parts of ordinary words."""
_KEYS = r"(?:ssl)?password|token|secret|api_?key"


def without_password(url: str) -> str:
    """Return a URL fit for printing."""
    hidden = re.sub(r"(://[^:/@\s]*):[^\s]*@", r"\1:***@", url)
    return re.sub(rf"\b({_KEYS})=[^&,\s]*", r"\1=***", hidden, flags=re.IGNORECASE)


def redactor() -> Callable[[str], str]:
    """Return a function that takes the secrets of this process's environment (``RF_*``), as it is now, out of a text."""
    values = [value for name, value in os.environ.items() if _may_hold(name.upper(), value)]
    secrets = sorted({secret for value in values for secret in secrets_of(value)}, key=len, reverse=True)

    def redacted(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return redacted


def without_secrets(text: str) -> str:
    """Return a text without the secrets of this process's environment; for many texts, see :func:`redactor`."""
    return redactor()(text)


def _may_hold(name: str, value: str) -> bool:
    return name.startswith("RF_") and ("://" in value or name == "RF_TOKEN")


def secrets_of(value: str) -> Iterator[str]:
    """Secrets of a setting, in every form in which a message may quote them: as written, decoded, and in parts.

    A value that is no URL is a secret as a whole. In a URL, what stands before its last ``@`` is user and password, also where
    the password has characters that should have been encoded and end the host for a parser.
    """
    scheme, is_url, rest = value.partition("://")
    if not is_url:
        yield value
        return
    for query in re.findall(rf"[?&,](?:{_KEYS})=([^&,\s]+)", rest, flags=re.IGNORECASE):
        yield from _forms(query)
    login = rest.rpartition("@")[0]
    user, _, password = login.partition(":")
    if password:
        yield from (form for form in _forms(password) if form != user)
    elif scheme.startswith("http"):
        yield from _forms(login)


def _forms(secret: str) -> Iterator[str]:
    for form in (secret, unquote(secret)):
        yield from (part for part in (form, *re.split(r"[/?#@:\[\]]", form)) if len(part) >= _SHORTEST)
