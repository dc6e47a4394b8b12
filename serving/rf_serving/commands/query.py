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
        typer.Option(
            help="An anonymous session: item ids, oldest first, with commas; '' for one of which nothing is known.",
            show_default=False,
        ),
    ] = None,
    similar_to: Annotated[
        str | None,
        typer.Option(
            help="Items: ids with commas, or @FILE with one item that is in no catalog, as `rf items get` writes it.",
            show_default=False,
        ),
    ] = None,
    co_occurrence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of --similar-to: share of what the same users took in the score, 0 to 1; default: as the server is set up.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    include_seen: Annotated[
        bool,
        typer.Option("--include-seen", help="Items that the user has seen may come back.", rich_help_panel=_FILTER),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition on a feature, such as FEATURE=VALUE,VALUE or FEATURE>=NUMBER, or several with `or` and `not`; of "
            "several --where all must hold.",
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
    goal: Annotated[
        list[str] | None,
        typer.Option(
            help="What the user is to do next, and how much it weighs beside other goals: TYPE or TYPE=WEIGHT, such as "
            "purchase=3. Repeatable; needs a model with goals.",
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
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a --history with an item that the catalog does not have; else it is left out.",
        ),
    ] = False,
    placement: Annotated[
        str | None,
        typer.Option(
            help="A placement of the policy (`rf policy show`) with the rules that the answer follows.",
            show_default="the policy's default",
            rich_help_panel=_RANKING,
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            help="Of a placement with lists by a feature: the value with the list to take.",
            show_default=False,
            rich_help_panel=_RANKING,
        ),
    ] = None,
    address: Address = SERVER,
    as_json: Json = False,
) -> None:
    """Ask a running server for recommendations, or for similar items, and show them with titles.

    Recommendations for a user or a session are shown beside the history they were made from. --similar-to asks for the items that
    are most like some others, for no user in particular (docs/similar-items.md).

    Titles and features are those that the server has now, upserted items included. Below the items stands how they were
    found: how many were eligible, whether all of them were scored, what ordered them, and where the time went.

    A condition names a feature or display field of items as `rf features show` does, and compares it: = (one of), != (none of),
    <, <=, >, >=, all (has all of), present, absent; `not` stands before a condition, `or` between two. The feature's type says
    how a value is read: 1990, true, 2026-10-01 or 2026-10-01T08:00:00+02:00 for a time; texts with commas stand in double quotes.
    docs/filters.md has the rules.

    [bold]Examples[/]

        rf query --user 42 -k 20
        rf query --history 50,181 --explain
        rf query --user 42 --where item_attributes__genres=Drama,War --where 'item_attributes__release_year>=1990'
        rf query --user 42 --where 'item_attributes__genres all Drama,War' --deny 1210 --rerank exact
        rf query --user 42 --filter @drama.json --json
        rf query --user 42 --goal purchase=3 --goal view=1
        rf query --similar-to 50,181 --where item_attributes__genres=Drama
        rf query --similar-to @new-film.json
    """
    from rf_platform.errors import UsageError
    from rf_protos.v1.retrieval_pb2 import RetrieveRequest
    from rf_serving.client import RetrievalClient
    from rf_serving.commands.filter_options import filter_of
    from rf_serving.commands.goal_options import weighted_goals
    from rf_serving.commands.query_output import AnswerItems, print_answer, print_answer_json
    from rf_serving.commands.similar import SimilarOptions, ask_for_similar
    from rf_serving.ranking.policy import order_named

    filter_ = filter_of(filter_text, allow, deny, where or ())
    if similar_to is not None:
        flags = {"--include-seen": include_seen or None, "--explain": explain or None, "--strict": strict or None}
        of_users = {
            "--user": user,
            "--history": history,
            "--rerank": rerank,
            "--category": category,
            "--goal": goal or None,
            **flags,
        }
        ask_for_similar(
            SimilarOptions(similar_to, k, filter_, address, as_json, co_occurrence, placement or ""), of_users
        )
        return
    if co_occurrence is not None:
        raise UsageError("--co-occurrence is about items that are similar to others; ask for these by --similar-to ID")
    request = RetrieveRequest(
        k=k,
        exclude_seen=not include_seen,
        return_history=True,
        filter=filter_,
        rerank=order_named(rerank),
        explain=explain,
        placement=placement or "",
        goals=weighted_goals(goal or ()),
        category=category or "",
    )
    subject = _ask_for(request, user, history, strict=strict)
    with RetrievalClient(address) as client:
        response = client.retrieve(request)
        items = AnswerItems.of(client, response)
    if as_json:
        print_answer_json(response, items)
    else:
        print_answer(response, items, subject, explained=explain)


def _ask_for(request: "RetrieveRequest", user: str | None, history: str | None, *, strict: bool) -> str:
    """Set the subject of the request, and return a name for it."""
    from rf_platform.errors import UsageError
    from rf_protos.v1.retrieval_pb2 import Interaction, Session

    if (user is None) == (history is None):
        raise UsageError("give either --user ID or --history ID,ID,..., or ask for similar items by --similar-to ID")
    if user is not None:
        request.user_id = user
        return f"user {user}"
    ids = [text.strip() for text in (history or "").split(",") if text.strip()]
    request.session.CopyFrom(Session(history=[Interaction(item_id=item) for item in ids], strict=strict))
    return "this session"
