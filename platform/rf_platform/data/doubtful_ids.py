"""Ids that are probably none, or written otherwise than in another table: what an import warns of and a guess marks."""

import duckdb

from rf_platform.sql import identifier, literal

MISSING = ("null", "none", "nan", "n/a", "#n/a", "\\n", "nil", "undefined", "(null)", "<na>", "-", "--", "?")
"""Texts, in lower case, by which programs say that there is no value."""
_NOBODY = ("guest", "anonymous", "anon", "unknown", "unbekannt", "gast", "anonym")
_MANY, _SHARE = 100, 0.2
"""Events, and their share of all, from which on one user is worth a word."""


def missing_sql(text: str) -> str:
    """Return the SQL of whether a text says that there is no value."""
    return f"lower({text}) IN ({', '.join(map(literal, MISSING))})"


def alike_sql(text: str) -> str:
    """Return the SQL of an id without what programs change about it: case, leading zeros, the point of a float."""
    return f"coalesce(nullif(ltrim(regexp_replace(lower({text}), '[.]0+$', ''), '0'), ''), '0')"


def stand_ins(connection: duckdb.DuckDBPyConnection, log: str) -> tuple[str, ...]:
    """Return a warning for each id of the log that seems to stand for many, or for none.

    Args:
        connection: has the log.
        log: relation of its checked rows.
    """
    found = []
    for side in ("user", "item"):
        name = f"CAST({side}_id AS VARCHAR)"
        nobody = f"lower(id) IN ({', '.join(map(literal, (*MISSING, *_NOBODY)))})"
        rows = connection.execute(
            f"SELECT id, n, {nobody}, sum(n) OVER () FROM (SELECT {name} AS id, count(*) AS n FROM {identifier(log)} GROUP BY 1) "
            f"QUALIFY {nobody} OR (n >= {_MANY} AND n >= {_SHARE} * sum(n) OVER () AND {side == 'user'}) ORDER BY n DESC, id"
        ).fetchall()
        named = [row for row in rows if row[2]]
        if named:
            listed = ", ".join(f"{row[0]!r} ({row[1]:,} events)" for row in named[:10])
            texts = ", ".join(literal(row[0]) for row in named[:10])
            found.append(
                f"{side}s called {listed} look like none: each mixes the histories of many; if so, say "
                f"`csv: {{null_values: [{texts}]}}` in the mapping, and for users a `fallback` such as the session"
            )
        found += [
            f"user {row[0]!r} has {row[1]:,} of {row[3]:,} events; if it stands for visitors that are not known, their histories "
            f"are mixed: leave these rows out, or give the users a `fallback` such as the session"
            for row in rows
            if not row[2]
        ]
    return tuple(found)


def written_otherwise(connection: duckdb.DuckDBPyConnection, missing: str, table: str) -> str:
    """Return what tells ids that a table lacks from those it has; empty where that is more than how they are written.

    Args:
        connection: has both relations.
        missing: query of the ids that the table lacks, as texts called ``id``.
        table: query of the table's ids, as texts called ``id``.
    """
    count, own, other = connection.execute(
        f"SELECT count(DISTINCT m.id), min_by(m.id, m.id), min_by(t.id, m.id) FROM ({missing}) m "
        f"JOIN ({table}) t ON {alike_sql('m.id')} = {alike_sql('t.id')}"
    ).fetchall()[0]
    if not count:
        return ""
    return f"; {count:,} of them are there, written otherwise ({own!r} in the log, {other!r} in the table): write them alike"
