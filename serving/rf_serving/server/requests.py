"""Check what a request asks for; messages begin with the name of the field at fault."""

from rf_platform.errors import UsageError
from rf_platform.features.spec import FeatureSpec
from rf_protos.v1.retrieval_pb2 import Rerank, RetrieveRequest
from rf_serving.retrieval.query import Query
from rf_serving.server.limits import Limits
from rf_serving.wire.ids import parse_id


def parse_request(request: RetrieveRequest, spec: FeatureSpec, limits: Limits) -> Query:
    """Return the query of a request; a session's own fields are checked when it is read.

    Raises:
        UsageError: no subject is given, or ``k``, ``rerank`` or ``user_id`` is wrong.
    """
    subject = request.WhichOneof("subject")
    if subject is None:
        raise UsageError("subject: set user_id, or session for a visitor without an id")
    if not 1 <= request.k <= limits.max_k:
        raise UsageError(f"k: {request.k} is not possible; ask for 1 to {limits.max_k} items")
    if request.rerank not in Rerank.values():
        raise UsageError(f"rerank: {request.rerank} is none of {', '.join(Rerank.keys())}")
    if subject == "session" and len(request.session.history) > limits.max_session:
        raise UsageError(
            f"session.history: {len(request.session.history)} interactions are given, and a session may have "
            f"{limits.max_session} (--max-session); send the latest ones"
        )
    return Query(
        subject=request.session if subject == "session" else parse_id(request.user_id, spec.user.id_type, "user_id"),
        k=request.k,
        exclude_seen=request.exclude_seen,
        filter=request.filter if request.HasField("filter") else None,
        rerank=request.rerank,
        history=request.return_history,
        explain=request.explain,
    )
