"""``rf query``: ask a running server."""

from typing import TYPE_CHECKING, Annotated

import typer

from rf_platform.cli.options import SERVER, Address, Json, Order

if TYPE_CHECKING:
    from rf_protos.v1.retrieval_pb2 import RetrieveRequest

app = typer.Typer()

_FILTER, _RANKING = "Which items", "Their order"


@app.command()
def query(
    user: Annotated[str | None, typer.Option(help="A user's id.", show_default=False)] = None,
    history: Annotated[
        str | None,
        typer.Option(help="An anonymous session: item ids, oldest first, with commas.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    include_seen: Annotated[
        bool,
        typer.Option("--include-seen", help="Items that the user has seen may come back.", rich_help_panel=_FILTER),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition on a feature, such as FEATURE=VALUE,VALUE or FEATURE>=NUMBER; several must all hold.",
            show_default=False,
            rich_help_panel=_FILTER,
        ),
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option(help="Only these items: ids with commas.", show_default=False, rich_help_panel=_FILTER),
    ] = None,
    deny: Annotated[
        str | None,
        typer.Option(help="None of these items: ids with commas.", show_default=False, rich_help_panel=_FILTER),
    ] = None,
    filter_text: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="The JSON of a retrievalformer.v1.Filter, or @FILE that has it; holds together with the others.",
            show_default=False,
            rich_help_panel=_FILTER,
        ),
    ] = None,
    rerank: Annotated[
        Order | None,
        typer.Option(
            help="What orders the items that are found: the search (none), exact dot products, or the bundle's re-ranker (lime); "
            "default: as the server is set up.",
            show_default=False,
            rich_help_panel=_RANKING,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show which events of the history and which features moved each score most.",
            rich_help_panel=_RANKING,
        ),
    ] = False,
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Ask a running server for recommendations and show them with titles, beside the history they were made from.

    Titles come from the bundle in this workspace; where it is not here, ids are shown. Below the items stands how they were
    found: how many were eligible, whether all of them were scored, what ordered them, and where the time went.

    A condition names a feature or display field of items as `rf features show` does, and compares it: = (one of), != (none of),
    <, <=, >, >=, all (has all of), present, absent. What looks like a number is one; texts of digits stand in double quotes.
    docs/filters.md has the rules.

    [bold]Examples[/]

        rf query --user 42 -k 20
        rf query --history 50,181 --explain
        rf query --user 42 --where item_attributes__genres=Drama,War --where 'item_attributes__release_year>=1990'
        rf query --user 42 --where 'item_attributes__genres all Drama,War' --deny 1210 --rerank exact
        rf query --user 42 --filter @drama.json --json
    """
    from rf_protos.v1.retrieval_pb2 import RetrieveRequest
    from rf_serving.client import RetrievalClient
    from rf_serving.commands.filter_options import filter_of
    from rf_serving.commands.query_output import print_answer, print_answer_json
    from rf_serving.ranking.policy import order_named

    request = RetrieveRequest(
        k=k,
        exclude_seen=not include_seen,
        return_history=True,
        filter=filter_of(filter_text, allow, deny, where or ()),
        rerank=order_named(rerank),
        explain=explain,
    )
    subject = _ask_for(request, user, history)
    with RetrievalClient(address) as client:
        response = client.retrieve(request)
    if as_json:
        print_answer_json(response)
    else:
        print_answer(response, subject, explained=explain)


def _ask_for(request: "RetrieveRequest", user: str | None, history: str | None) -> str:
    """Set the subject of the request, and return a name for it."""
    from rf_platform.errors import UsageError
    from rf_protos.v1.retrieval_pb2 import Interaction, Session

    if (user is None) == (history is None):
        raise UsageError("give either --user ID or --history ID,ID,...")
    if user is not None:
        request.user_id = user
        return f"user {user}"
    ids = [text.strip() for text in (history or "").split(",") if text.strip()]
    request.session.CopyFrom(Session(history=[Interaction(item_id=item) for item in ids]))
    return "this session"
