"""What callers are told of an error."""

import inspect

import pytest

from rf_platform import errors
from rf_platform.errors import RfError, TooManyError
from rf_serving.server.rpc import told, without_places

SECRET = (
    "postgresql+psycopg://shop:***@db.internal:5432/prod cannot be used: no connection to 10.0.0.7, see /srv/rf/x.db"
)
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RfError)]
FOR_CALLERS = {"UsageError", "TooManyError", "DataError", "OverloadedError", "UnsupportedError"}


@pytest.mark.parametrize("kind", CLASSES)
def test_only_errors_of_the_request_are_told_in_their_own_words(kind: type[RfError]) -> None:
    message = told(TooManyError(SECRET, most=1) if kind is TooManyError else kind(SECRET))
    assert (message == SECRET) == (kind.__name__ in FOR_CALLERS)
    if message != SECRET:
        assert not {"postgresql", "shop", "internal:", "10.0.0.7", "/srv"} & set(message.replace("/", " /").split())
        assert "log" in message


def test_messages_are_cut_to_what_a_header_takes() -> None:
    assert len(told(errors.UsageError("x" * 5000))) == 1001


def test_places_are_left_out_of_a_text() -> None:
    text = (
        "/srv/rf/home/bundles/B/weights.pt is damaged (sqlite:////srv/rf/registry.db); see '/a/b.json', 3/4 and view__x"
    )
    found = without_places(text)
    assert "/srv" not in found
    assert "sqlite" not in found
    assert "…/weights.pt" in found
    assert "…/b.json" in found
    assert "3/4 and view__x" in found
