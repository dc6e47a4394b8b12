"""The commands of the serving layer."""

from rf_edges.edge import Edge
from rf_edges.training_commands import IMPORTS as _TRAINING

_IMPORTS, _SERVER = ("import", "rf_serving."), ("import", "rf_serving.server")
_MANIFEST, _TOKENS = ("open", "manifest.json"), ("os.rename", "tokens.json")
_REGISTRY = ("registry.db*",)
_NO_TOKENS = frozenset({("tokens.json", "missing")})

EDGES = (
    Edge(
        name="evaluate",
        arguments="done --markdown {home}/found.md",
        reads=("runs/done/best/weights.pt",),
        writes=("found.md", "runs/done/*", "registry.db*"),
        moments=(_TRAINING, ("open", "weights.pt"), ("os.rename", "metrics.json"), ("os.rename", "found.md")),
        pause=("os.rename", "metrics.json"),
    ),
    Edge(
        name="index build",
        arguments="done --name third",
        reads=("runs/done/metrics.json",),
        passes=frozenset({("runs/done/metrics.json", "content")}),  # a run's own, which a bundle has as they are
        writes=("bundles", "bundles/*", "registry.db*"),
        needs_room=True,
        moments=(_TRAINING, ("open", ".building-"), ("os.rename", "bundles/third")),
        pause=("open", ".building-"),
        refused=r"bundle 'third' is being built by process \d+ \(rf index build done --name third\)",
    ),
    Edge(
        name="promote",
        arguments="first",
        reads=("bundles/first/model/weights.pt",),
        writes=_REGISTRY,
        needs_room=True,
        moments=(_IMPORTS, _MANIFEST),
    ),
    Edge(
        name="rollback",
        reads=("bundles/first/vectors.npy",),
        writes=_REGISTRY,
        moments=(_IMPORTS, _MANIFEST),
        overtaken="somebody else promoted or rolled back meanwhile: .*; look at `rf bundles` and try again",
    ),
    Edge(
        name="shadow",
        arguments="first",
        reads=("bundles/first/items.parquet",),
        writes=_REGISTRY,
        moments=(_IMPORTS, _MANIFEST),
    ),
    Edge(name="deployment", arguments="--address {server}", alone=False, moments=(_IMPORTS,)),
    Edge(
        name="token add",
        arguments="writer --role write",
        reads=("tokens.json",),
        passes=_NO_TOKENS,
        writes=("tokens.json*",),
        moments=(_SERVER, _TOKENS),
        after="token list",
        waits=True,
        refused="a token for 'writer' is in .* already",
    ),
    Edge(name="token list", reads=("tokens.json",), passes=_NO_TOKENS, moments=(_SERVER,)),
    Edge(
        name="token remove",
        arguments="reader",
        reads=("tokens.json",),
        writes=("tokens.json*",),
        moments=(_SERVER, _TOKENS),
        after="token list",
        waits=True,
        refused="no token for 'reader'",
    ),
    Edge(
        name="events record",
        arguments="{home}/events.jsonl --address {server}",
        reads=("events.jsonl",),
        alone=False,
        moments=(_IMPORTS,),
    ),
    Edge(name="events show", writes=("events", "events/*"), moments=(("import", "rf_platform.data.event_log"),)),
    Edge(
        name="events seal",
        writes=("events", "events/*"),
        needs_room=True,
        moments=(("import", "rf_platform.data.event_log"),),
    ),
    Edge(
        name="items upsert",
        arguments="{home}/items.jsonl --address {server}",
        reads=("items.jsonl",),
        alone=False,
        moments=(_IMPORTS,),
    ),
    Edge(name="items delete", arguments="105 --address {server}", alone=False, moments=(_IMPORTS,)),
    Edge(name="items get", arguments="101 --address {server}", alone=False, moments=(_IMPORTS,)),
    Edge(name="query", arguments="--user 1 --address {server}", alone=False, moments=(_IMPORTS,)),
    Edge(
        name="batch",
        arguments="--out {home}/top.parquet --users {home}/users.txt --filter @{home}/filter.json",
        reads=("users.txt",),
        writes=("top.parquet", "cache", "cache/*"),
        moments=(_IMPORTS, ("open", ".top.parquet"), ("os.rename", "top.parquet")),
    ),
    Edge(
        name="serve",
        arguments="--port 0",
        reads=("bundles/second/model/weights.pt",),
        writes=("events", "events/*", "feast/*", "registry.db*"),
        alone=False,
        moments=(("import", "rf_serving.server.run"), ("open", "vectors.npy")),
        stops=True,
        after="bundles",
    ),
    Edge(name="demo", alone=False, moments=(("import", "rf_platform.data.importer"),), after="--help"),
)
"""Every command of the package ``rf_serving``."""
