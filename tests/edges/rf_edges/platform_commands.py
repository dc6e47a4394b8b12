"""The commands of the platform."""

from rf_edges.edge import Edge

_TABLES = ("tables/interactions.parquet", "tables/items.parquet", "tables/users.parquet")
_RECORD = "tables/import.json"
_STORE = "feature_repo/feature_store.yaml"
_FEAST = "feast/registry.db"
_REGISTRY = "registry.db"
_ONLINE = "feast/online.db"
_IMPORTS, _FEATURES = ("import", "rf_platform.data."), ("import", "rf_platform.features.")
_OBJECTS = ("import", "rf_platform.object_store")
_SIGNATURE = ("import", "rf_platform.bundle.signature")
_EXCHANGE = ("ctypes.dlsym", "renameat2")
"""Two directories are about to change places."""


def _half(*names: str) -> frozenset[tuple[str, str]]:
    """Return the faults of a database that may not be noticed: SQLite reads a file as far as it must."""
    return frozenset((name, fault) for name in names for fault in ("truncated",))


# Half of a YAML file can be one, tables of events alone are a catalog, too, and a record may be that of an import that says less.
_FINE = frozenset(
    {(_STORE, "truncated"), (_RECORD, "missing"), (_RECORD, "content"), ("inbox/events.csv", "truncated")}
)
_REPLACED = ("tables", "tables/*")

EDGES = (
    Edge(
        name="data import",
        needs_room=True,
        moments=(_IMPORTS, ("open", ".importing-"), _EXCHANGE),
        refused="another command writes or reads the tables of .*; wait for it to end",
        arguments="custom --mapping {home}/inbox/shop.yaml --replace",
        reads=("inbox/shop.yaml", "inbox/events.csv", "inbox/items.parquet"),
        passes=_FINE,
        writes=_REPLACED,
    ),
    Edge(
        name="data synth",
        needs_room=True,
        moments=(_IMPORTS, ("open", ".importing-"), _EXCHANGE),
        refused="another command writes or reads the tables of .*; wait for it to end",
        arguments="--users 20 --items 20 --events 2000 --replace",
        writes=_REPLACED,
    ),
    Edge(name="data show", moments=(_IMPORTS, ("open", "import.json")), reads=(_RECORD,)),
    Edge(
        name="data guess",
        arguments="{home}/inbox/log.csv {home}/inbox/items.parquet --out {home}/guessed.yaml",
        reads=("inbox/log.csv", "inbox/items.parquet"),
        passes=frozenset({("inbox/log.csv", "truncated"), ("inbox/items.parquet", "content")}),
        writes=("guessed.yaml",),
        moments=(_IMPORTS, ("os.rename", "guessed.yaml")),
    ),
    Edge(
        name="data init-repo",
        needs_room=True,
        moments=(_IMPORTS, ("os.rename", "/mine/")),
        waits=True,
        refused="mine",
        arguments="{home}/mine",
        reads=(_RECORD, _TABLES[1]),
        writes=("mine", "mine/*"),
        makes=("mine",),
    ),
    Edge(
        name="features apply",
        needs_room=True,
        moments=(_FEATURES, ("open", "feature_repo/"), ("sqlite3.connect", "registry.db")),
        waits=True,
        reads=(_STORE, "feature_repo/items.py", _FEAST),
        passes=_FINE | _half(_FEAST),
        writes=("feast/*",),
    ),
    Edge(
        name="features materialize",
        needs_room=True,
        moments=(_FEATURES, ("sqlite3.connect", "online.db"), ("os.rename", "user_history.parquet")),
        refused="another `rf features materialize` works on .*; wait for it to end",
        reads=(_TABLES[0], _TABLES[2], _RECORD, _ONLINE),
        passes=_FINE | _half(_ONLINE),
        writes=("feast/*", "tables", "tables/user_history.parquet", "events", "events/*"),
    ),
    Edge(
        name="features show",
        moments=(_FEATURES, ("sqlite3.connect", "registry.db")),
        reads=(_FEAST,),
        passes=_FINE,
    ),
    Edge(
        name="dataset build",
        needs_room=True,
        moments=(("import", "rf_platform.dataset"), ("open", ".building-"), ("os.rename", "datasets/tiny-v")),
        waits=True,
        reads=(*_TABLES[:2], _RECORD, _REGISTRY),
        passes=_FINE | _half(_REGISTRY),
        writes=("datasets", "datasets/*", "registry.db*", "feast/*", "events", "events/*"),
        makes=("datasets",),
    ),
    Edge(
        name="dataset doctor",
        moments=(("import", "rf_platform.dataset"), ("sqlite3.connect", "registry.db")),
        writes=("registry.db*", "feast/*", "events", "events/*"),
    ),
    Edge(
        name="dataset show",
        moments=(("import", "rf_platform.dataset"), ("open", "manifest.json")),
        reads=(_REGISTRY, "datasets/tiny-v1/manifest.json", "datasets/tiny-v1/spec.json"),
        writes=("registry.db*",),
    ),
    Edge(
        name="bundles",
        moments=(("import", "rf_platform.registry"), ("sqlite3.connect", "registry.db")),
        reads=(_REGISTRY,),
        passes=_half(_REGISTRY),
        writes=("registry.db*",),
    ),
    Edge(
        name="dataset list",
        moments=(("import", "rf_platform.registry"), ("sqlite3.connect", "registry.db")),
        reads=(_REGISTRY,),
        passes=_half(_REGISTRY),
        writes=("registry.db*",),
    ),
    *(
        Edge(
            name=f"runs {name}",
            arguments=arguments,
            moments=(("import", "rf_platform.registry"), ("sqlite3.connect", "registry.db")),
            writes=("registry.db*",),
        )
        for name, arguments in (("list", ""), ("show", "done"), ("diff", "done begun"))
    ),
    Edge(
        name="runs rm",
        arguments="begun",
        moments=(("import", "rf_platform.registry"), ("sqlite3.connect", "registry.db")),
        writes=("registry.db*", "runs/*"),
        after="runs list",
        overtaken="the files of run 'begun' were removed before",
    ),
    Edge(
        name="bundle keygen",
        arguments="{home}/new.pem",
        needs_room=True,
        writes=("new.pem", "new.pem.pub"),
        moments=(_SIGNATURE, ("os.link", "new.pem")),
        after="bundles",
        overtaken="new.pem exists already",
    ),
    Edge(
        name="bundle sign",
        arguments="first --key {home}/release.pem",
        needs_room=True,
        reads=("release.pem", "bundles/first/vectors.npy"),
        writes=("bundles/first/*", "registry.db*"),
        moments=(_SIGNATURE, ("os.rename", "signature.json")),
    ),
    Edge(
        name="bundle verify",
        arguments="second --key {home}/release.pem.pub",
        reads=("release.pem.pub", "bundles/second/signature.json", "bundles/second/vectors.npy"),
        writes=("registry.db*",),
        moments=(_SIGNATURE, ("open", "manifest.json")),
    ),
    Edge(
        name="store push",
        arguments="bundle second --url file://{home}/away",
        needs_room=True,
        reads=("bundles/second/vectors.npy",),
        writes=("away", "away/*", "registry.db*"),
        moments=(_OBJECTS, ("open", "bundles/second/vectors.npy")),
    ),
    Edge(
        name="store pull",
        arguments="dataset tiny-v1 --url file://{home}/away",
        needs_room=True,
        reads=("away/datasets/tiny-v1/listing.json",),
        writes=("datasets", "datasets/*", "fetched", "fetched/*", "registry.db*"),
        makes=("datasets/tiny-v1",),
        moments=(_OBJECTS, ("open", ".begun"), ("os.rename", "datasets/tiny-v1")),
        waits=True,
    ),
    Edge(
        name="store list",
        arguments="--url file://{home}/away",
        reads=("away/bundles/first/listing.json",),
        passes=frozenset(("away/bundles/first/listing.json", fault) for fault in ("missing", "directory")),
        writes=("registry.db*",),
        moments=(_OBJECTS, ("sqlite3.connect", "registry.db")),
    ),
    Edge(
        name="store rm",
        arguments="bundle first --url file://{home}/away",
        writes=("away/*", "registry.db*"),
        moments=(_OBJECTS, ("sqlite3.connect", "registry.db")),
        after="bundles",
        overtaken="has no bundle 'first'",
    ),
    Edge(
        name="skew replay",
        alone=False,
        writes=("skew/*",),
        moments=(("import", "rf_platform.skew"),),
    ),
    Edge(
        name="skew monitor",
        alone=False,
        writes=("registry.db*", "skew/*"),
        moments=(("import", "rf_platform.skew"),),
    ),
    Edge(
        name="doctor",
        moments=(("import", "rf_platform.doctor"), ("sqlite3.connect", "registry.db")),
        writes=("feast/*",),
        fails=True,
    ),
)
"""Every command of the package ``rf_platform``, and `rf dataset`, which makes datasets with it."""
