"""Schema of the serving log: one row for each answer.

The columns of :data:`RECORD` are the same for all bundles. Behind them every FeatureSpec has columns of its own
(:func:`record_schema`): each user feature and each column of the history as the server read it, under its full name with
:data:`VALUE` before it, and for each view the event timestamp that its row had in the online store, with :data:`MOMENT` before
its name. A file holds answers of one FeatureSpec; several files are read with ``union_by_name`` in DuckDB.

=================== ================================================================================================
column              meaning
=================== ================================================================================================
``request_id``      of the call: metadata ``x-request-id``, which the reply and the log line have, too
``time``            moment at which the features were read; what holds then is what was known strictly before it
``user_id``         user, as text; null for a session
``session_id``      identity of a session, by which a split assigns it: its id, or a digest of its content; null for a user
``placement``       placement of the policy; empty where there was none
``policy_version``  version of the policy; 0 where the answer followed no rules
``bundle``          name of the bundle that answered
``spec_hash``       hash of its FeatureSpec
``split``           salt of the traffic split that was on, the identity of the split; empty where there was none
``challenger``      whether the bundle was the split's challenger
``percent``         share of the users that the challenger had, 0 to 100
``path``            ``quick``, ``full`` or ``degraded``, as ``rf_answer_paths_total`` counts
``degraded``        reason of a degraded answer, such as ``DEGRADED_STORE_SILENT``; empty for a whole one
``cold``            whether there was no history
``rerank``          order of the items: ``none``, ``exact`` or ``lime``
``k``               number of items that were asked for
``catalog_sequence`` last change of the live catalog that the answer knew
``milliseconds``    time of the answer's stages, those of a batch counted for each of its answers
``items``           the items, best first, each a struct of :data:`ITEM`
=================== ================================================================================================

An item has its ``item_id``, the ``score`` it was ordered by, its ``place`` (1 is first), the ``source`` it came from (``model``
where there are no rules) and the ``propensity``, as the reply has it: of an item that was drawn at random, the probability of
the draw; 0 of every other, which the answer was certain to have. ``bundle`` is
that of an item in a list that two bundles filled in turns, and empty in all other lists.
"""

import pyarrow as pa

from rf_platform.features.spec import FeatureSpec

VALUE, MOMENT = "value.", "moment."
"""Beginnings of the names of the columns of features, and of the times of views."""
_TIME = pa.timestamp("us", tz="UTC")
ITEM = pa.struct(
    [
        pa.field("item_id", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("place", pa.int32()),
        pa.field("source", pa.string()),
        pa.field("propensity", pa.float64()),
        pa.field("bundle", pa.string()),
    ]
)
"""One item of an answer."""
RECORD = pa.schema(
    [
        pa.field("request_id", pa.string()),
        pa.field("time", _TIME),
        pa.field("user_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("placement", pa.string()),
        pa.field("policy_version", pa.int64()),
        pa.field("bundle", pa.string()),
        pa.field("spec_hash", pa.string()),
        pa.field("split", pa.string()),
        pa.field("challenger", pa.bool_()),
        pa.field("percent", pa.float64()),
        pa.field("path", pa.string()),
        pa.field("degraded", pa.string()),
        pa.field("cold", pa.bool_()),
        pa.field("rerank", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("catalog_sequence", pa.int64()),
        pa.field("milliseconds", pa.float32()),
        pa.field("items", pa.list_(ITEM)),
    ]
)
"""Columns that every record has."""


def value_column(name: str) -> str:
    """Return the column of a feature, by its full name."""
    return VALUE + name


def moment_column(view: str) -> str:
    """Return the column with the event timestamp of a view's row; null where the store had no row, or a session was asked for."""
    return MOMENT + view


def record_schema(spec: FeatureSpec) -> pa.Schema:
    """Return the schema of answers by a FeatureSpec: :data:`RECORD`, the user's features, the history, the times of views.

    Values have the types of their definitions (times are timestamps). A history has lists, oldest first; missing elements are
    the markers that the online store has (:mod:`rf_platform.features.dtype`), times have the store's whole seconds.
    """
    read = [*spec.inputs("user"), *spec.history]
    fields = [pa.field(value_column(f.name), f.type.arrow) for f in read]
    views = sorted({f.view for f in read})
    return pa.schema([*RECORD, *fields, *(pa.field(moment_column(view), _TIME) for view in views)])
