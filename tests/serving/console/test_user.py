"""Users and sessions in the console: history, answer with reasons, and what it would be otherwise."""

from urllib.parse import urlencode

from rf_protos.v1.retrieval_pb2 import RetrieveRequest

from ..conftest import RunningServer
from .conftest import Browser, Shown


def rows(shown: Shown) -> list[list[str]]:
    """Items of the answers, in order: one list for each."""
    found = []
    for part in shown.text.split("<section><h2>")[1:]:
        body = part.partition("<tbody>")[2].partition("</tbody>")[0]
        found.append([cell.partition('"')[0] for cell in body.split('href="/item?id=')[1:]])
    return found


def test_the_answer_is_that_of_the_server(browser: Browser, served: RunningServer) -> None:
    shown = browser.get("/user?id=17&k=8")
    expected = served.stub.Retrieve(RetrieveRequest(user_id="17", k=8, exclude_seen=True))
    assert rows(shown) == [[item.item_id for item in expected.items]]
    assert "fetch" in shown.words
    assert "bundle tiny-run-1" in shown.words
    for word in ("gender", "age group", "occupation"):
        assert word.replace(" ", "_") in shown.words


def test_the_history_has_ages(browser: Browser, served: RunningServer) -> None:
    shown = browser.get("/user?id=30")
    response = served.stub.Retrieve(RetrieveRequest(user_id="30", k=1, return_history=True))
    drops = shown.text.count('name="drop"')
    assert drops >= len(response.history) > 0
    assert shown.text.count("<time") >= drops
    assert " y ago" in shown.words
    assert "-2147483648" not in shown.words  # the marker of what is missing
    assert "nan" not in shown.words


def test_a_session_of_what_is_stored_is_answered_like_the_user(browser: Browser, served: RunningServer) -> None:
    plain = browser.get("/user?id=30&k=10")
    profile = next(f for f in plain.forms if "set:user_profile__gender" in f.fields)
    assert profile.method == "get"
    same = browser.get(f"/user?{urlencode({'id': '30', 'k': '10', 'rerank2': 'none'})}")
    now, other = rows(same)
    assert now == other
    assert "new" not in same.words.partition("What if Compare")[2]


def test_what_if_an_event_were_dropped(browser: Browser) -> None:
    shown = browser.get("/user?id=30&k=10&drop=19&drop=18&drop=17&drop=16")
    now, other = rows(shown)
    assert len(now) == len(other) == 10
    assert now != other
    assert 'class="differs"' in shown.text
    gone = [item for item in now if item not in other]
    assert ("Not any more" in shown.words) == bool(gone)
    assert browser.get("/user?id=30&drop=99").status == 400


def test_what_if_the_profile_were_another(browser: Browser) -> None:
    shown = browser.get(f"/user?{urlencode({'id': '30', 'set:user_profile__occupation': 'nobody', 'k': '20'})}")
    now, other = rows(shown)
    assert set(now) & set(other)
    assert "What if" in shown.words
    assert browser.get("/user?id=30&set:nothing=1").status == 400


def test_another_bundle(browser: Browser) -> None:
    shown = browser.get("/user?id=30&k=10&bundle=tiny-run-1")  # the same one, so the same answer
    now, other = rows(shown)
    assert now == other
    assert "computed by the console" in shown.words
    assert browser.get("/user?id=30&bundle=none").status == 404


def test_a_session_is_clicked_together(browser: Browser, served: RunningServer) -> None:
    empty = browser.get("/user?anonymous=yes")
    assert "No interactions" in empty.words
    found = browser.get("/user?anonymous=yes&find=movie+17")
    link = found.text.partition('Movie 17 <a href="')[2].partition('"')[0].replace("&amp;", "&")
    one = browser.get(link)
    assert "session=17" in link
    (answer,) = rows(one)
    assert "17" not in answer
    more = one.text.split('class="hint" href="')[1].partition('"')[0].replace("&amp;", "&")
    assert f"session=17%2C{answer[0]}" in more
    two = browser.get(more)
    assert two.text.count("remove</a>") == 2


def test_unknown_users_are_told(browser: Browser) -> None:
    shown = browser.get("/user?id=999999")
    assert "has nothing of this user" in shown.words
    assert "cold" in shown.words
    assert len(rows(shown)[0]) == 12
    assert browser.get("/user?id=abc").status == 400
    assert "Name a user" in browser.get("/user").words
    assert browser.get("/user?id=1&k=1000").status == 400
    assert browser.get("/user?id=1&rerank=best").status == 400
