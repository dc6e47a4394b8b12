"""``rf events``: record events by hand, and look after their log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import SERVER, Address, Json

if TYPE_CHECKING:
    from rf_platform.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Record events, and look after the event log.")

_SHOWN = 10


@app.command()
def record(
    file: Annotated[
        Path, typer.Argument(help="Events, one JSON object a line; - reads standard input.", allow_dash=True)
    ],
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Send events to a running server and say what became of them.

    A line has event_id, user_id, item_id, timestamp_us (or timestamp, as 2024-05-31T18:00:00Z) and any column of the
    interactions table. Without an event_id the line gets one made from its content, so sending a file twice records it
    once; without a time it happens now.

    [bold]Example[/]

        echo '{"user_id": 42, "item_id": 50, "event_type": "rating", "rating": 5.0}' | rf events record -

    Exit code 1 if an event was rejected.
    """
    from rf_platform.cli.console import say, track
    from rf_protos.v1.feedback_pb2 import EventStatus
    from rf_serving.client import RetrievalClient
    from rf_serving.wire.json_lines import read_events

    events = read_events(file)
    counts: dict[str, int] = {"RECORDED": 0, "DUPLICATE": 0, "REJECTED": 0}
    said: list[dict[str, Any]] = []
    with RetrievalClient(address) as client, track("record", len(events)) as progress:
        for number, status in enumerate(client.record(events, progress.advance), 1):
            outcome = EventStatus.Outcome.Name(status.outcome)
            counts[outcome] += 1
            if status.message:
                message = {"event": number, "event_id": status.event_id, "outcome": outcome, "message": status.message}
                said.append(message)
    if as_json:
        print_json({**counts, "messages": said})
    else:
        for each in said[:_SHOWN]:
            line = f"event {each['event']}: {each['outcome'].lower()}: {each['message']}"
            say(line)
        if len(said) > _SHOWN:
            say(f"and {len(said) - _SHOWN} more")
        say(", ".join(f"{count:,} {name.lower()}" for name, count in counts.items()))
    if counts["REJECTED"]:
        raise typer.Exit(1)


@app.command()
def show(as_json: Json = False) -> None:
    """Show how many events there are, where, and how far the online store has followed.

    The online store itself is asked, too: one that was restored or emptied says so.
    """
    from rf_platform.data.event_log import EventLog, EventParts
    from rf_platform.settings import get_settings

    settings = get_settings()
    parts = EventParts(settings.workspace.events)
    log = EventLog.open(settings)
    state, head = log.state(), log.head()
    log.close()
    files = parts.parts
    store = _store(settings)
    facts = {
        "newest": head,
        "applied": state.applied,
        "waiting": head - state.applied,
        "in_files": sum(part.rows for part in files),
        "files": len(files),
        "log": state.log,
        "store": store,
    }
    if as_json:
        print_json(facts)
        return
    waits = (
        f"{facts['waiting']:,} wait for the online store"
        if facts["waiting"]
        else "the online store was given all of them"
    )
    say(f"events up to number {head:,}; {waits}")
    say(_said_of(store, head))
    say(f"{facts['in_files']:,} in {len(files)} files under {settings.workspace.events}")


def _store(settings: "Settings") -> dict[str, Any]:
    """Return how the online store stands to the log."""
    from rf_platform.failures import summary
    from rf_platform.features.store import open_store
    from rf_platform.features.store_marks import standing_of
    from rf_platform.interrupts import raise_if_received

    try:
        compared = standing_of(settings, open_store(settings))
    except Exception as error:  # each online store raises its own classes
        raise_if_received()
        return {"standing": "unknown", "position": None, "detail": summary(error)}
    return {"standing": compared.standing.value, "position": compared.position, "detail": compared.detail}


def _said_of(store: dict[str, Any], head: int) -> str:
    match store["standing"]:
        case "current" | "finishing" | "behind":
            behind = max(0, head - store["position"])
            where = f"the online store has events up to number {store['position']:,}, {behind:,} behind"
            return f"{where}; {store['detail']}" if store["detail"] else where
        case "unmarked":
            return "the online store has no marks of its own; `rf features materialize`, or a running `rf serve`, writes them"
        case "unknown":
            return f"the online store cannot be asked: {store['detail']}"
        case _:
            return f"{store['detail']}; `rf doctor` says what to do"


@app.command()
def seal(as_json: Json = False) -> None:
    """Move recorded events from SQL into Parquet files.

    `rf features materialize` and `rf dataset build` do it by themselves; use this where both run seldom and many events come.
    """
    from rf_platform.data.event_log import seal as move
    from rf_platform.settings import get_settings

    parts = move(get_settings()).parts
    rows = sum(part.rows for part in parts)
    if as_json:
        print_json({"events": rows, "files": len(parts)})
        return
    say(f"{rows:,} events in {len(parts)} files")


@app.command()
def forget(
    user: Annotated[str, typer.Argument(help="Id of the user.")],
    as_json: Json = False,
) -> None:
    """Remove a user: from the serving log, the event log, the online store with the seen set, and the imported tables.

    The next dataset has nothing of the user, and a later import leaves the older rows out. Events that are recorded afterwards
    count as those of a new user. It may be called again at any time, also after an interruption: what is left is removed. What
    was made before (datasets, models, bundles) and files outside the workspace are named, and left as they are.

    [bold]Example[/]

        rf events forget 42
    """
    from rf_platform.errors import UsageError
    from rf_platform.features.read import read_spec
    from rf_platform.features.store import open_store
    from rf_platform.forget.forget import forget as erase
    from rf_platform.settings import get_settings
    from rf_serving.wire.ids import parse_id

    settings = get_settings()
    settings.workspace.check_exists()
    if not user:
        raise UsageError("USER is empty; give the id of a user")
    parse_id(user, read_spec(open_store(settings), settings.feature_service).user.id_type, "USER")
    erasure = erase(settings, user)
    if as_json:
        print_json(erasure.to_dict())
        return
    events = erasure.recorded + erasure.sealed
    online = ", ".join(view for view, rows in erasure.online.items() if rows) or "nothing"
    tables = ", ".join(f"{rows:,} of {name}" for name, rows in erasure.tables.items()) or "none"
    say(f"user {user}: {erasure.served:,} answers of the serving log and {events:,} recorded events removed")
    say(f"online store: {online}; rows of imported tables: {tables}")
    for each in erasure.left:
        say(f"left: {each}")
