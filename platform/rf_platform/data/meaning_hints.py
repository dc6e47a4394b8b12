"""Hints that some events of a log are no wishes: names of event types, low ratings, a type that outnumbers all others.

They say what to declare and change nothing themselves; whether a name means what it seems to mean, only its owner knows.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from unicodedata import combining, normalize

import duckdb

from rf_platform.features.meanings import MADE, MeaningRule, Rules, has_numbers
from rf_platform.sql import identifier

_UNWANTED = (
    "dislike disliked dislikes unlike unliked unfavorite unfavourite downvote downvoted thumbsdown thumbdown skip skipped skips "
    "hide hidden hides report reported flag flagged return returned returns refund refunded refunds chargeback reject rejected "
    "dismiss dismissed block blocked mute muted notinterested uninterested nointerest unwanted negative complaint complained "
    "unfollow unsubscribe unsubscribed swipeleft leftswipe notrelevant irrelevant "
    "retoure retouren retourniert rucksendung ruecksendung zuruckgegeben zurueckgegeben storniert storno reklamiert reklamation "
    "abgelehnt ausgeblendet gefalltnicht gefaelltnicht "
    "retourne rembourse remboursement annule refuse masque "
    "devuelto devolucion reembolso reembolsado rechazado anulado oculto nomegusta"
)
_SEEN = (
    "impression impressions imp exposure exposures exposed shown displayed display viewonly viewedonly inview "
    "inviewport served rendered seen angezeigt eingeblendet ausgespielt affiche mostrado impresion"
)
_RATED = "rating ratings rate rated star stars score scores grade grades vote votes thumb thumbs sentiment"
_BESIDE = "event events action actions item items product video song article content type count click button"
_WORDS: dict[str, tuple[str, ...]] = {
    "unwanted": tuple(_UNWANTED.split()),
    "seen": tuple(_SEEN.split()),
}
_TYPES_LOOKED_AT = 1000
_LOW_SHARE = 0.05
"""Share of ratings below the middle of their range that is worth a word."""
_ENOUGH = 50
"""Events from which on their proportions say something."""
_OUTNUMBERS = 10
"""Times as many events as all other types have together, from which on a type is more likely shown than chosen."""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """One thing that was found, and the rule that would declare it."""

    found: str
    rule: MeaningRule


def find_hints(
    db: duckdb.DuckDBPyConnection, relation: str, bounds: Mapping[str, tuple[float | None, float | None]] | None = None
) -> list[Hint]:
    """Search an interaction log for events that are probably not wanted.

    Args:
        db: has the log.
        relation: the log, as it stands behind FROM.
        bounds: least and most that a column may hold, where that is declared; else the range is that of the values.
    """
    columns = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    hints = _type_hints(db, relation) if "event_type" in columns else []
    for name, kind in columns.items():
        if name not in MADE and has_numbers(kind) and set(_RATED.split()) & set(_tokens(name)):
            hints += _rating_hints(db, relation, name, (bounds or {}).get(name, (None, None)))
    return hints


def undeclared(hints: list[Hint], rules: Rules) -> list[Hint]:
    """Return the hints on events that no rule matches."""

    def spoken_of(hint: Hint) -> bool:
        rule = hint.rule
        if rule.types is not None:
            return all(any(r.types is not None and name in r.types for r in rules) for name in rule.types)
        return any(r.field == rule.field for r in rules)

    return [hint for hint in hints if not spoken_of(hint)]


def as_sentence(hints: list[Hint]) -> str:
    """Return hints as a warning with the line to add."""
    return (
        f"all events count as wishes, and some do not look like it: {'; '.join(hint.found for hint in hints)}. If so, declare it "
        f"in the feature repository, unless it is there: in the view that keeps the history, {as_tag(hints)}"
    )


def as_tag(hints: list[Hint]) -> str:
    """Return the line that declares hints, an entry of a view's tags."""
    rules = ", ".join(str(hint.rule) for hint in hints)
    return f'"meanings": {json.dumps(f"[{rules}]", ensure_ascii=False)}'


def _type_hints(db: duckdb.DuckDBPyConnection, relation: str) -> list[Hint]:
    counts = dict(
        db.execute(
            f"SELECT CAST(event_type AS VARCHAR) AS name, count(*) AS n FROM {relation} WHERE event_type IS NOT NULL "
            f"GROUP BY 1 ORDER BY n DESC, name LIMIT {_TYPES_LOOKED_AT}"
        ).fetchall()
    )
    hints = []
    named: set[str] = set()
    for meaning in ("unwanted", "seen"):
        types = sorted(name for name in counts if name not in named and _sounds(name, _WORDS[meaning]))
        named.update(types)
        if types:
            events = sum(counts[name] for name in types)
            shown = ", ".join(map(repr, types))
            hints.append(
                Hint(
                    found=f"{events:,} events are of type {shown}",
                    rule=MeaningRule(meaning="unwanted" if meaning == "unwanted" else "seen", types=tuple(types)),
                )
            )
    first = next(iter(counts), None)
    if first is not None and first not in named and len(counts) > 1:
        others = sum(counts.values()) - counts[first]
        if counts[first] >= max(_ENOUGH, _OUTNUMBERS * others):
            hints.append(
                Hint(
                    found=f"{first!r} has {counts[first]:,} events, and all other types together {others:,}, which is the "
                    f"proportion of what was shown to what was chosen",
                    rule=MeaningRule(meaning="seen", types=(first,)),
                )
            )
    return hints


def _rating_hints(
    db: duckdb.DuckDBPyConnection, relation: str, name: str, bounds: tuple[float | None, float | None]
) -> list[Hint]:
    number = f"CAST({identifier(name)} AS DOUBLE)"
    least, most = db.execute(
        f"SELECT min({number}), max({number}) FROM {relation} WHERE isfinite({number})"
    ).fetchall()[0]
    least, most = (found if said is None else said for found, said in zip((least, most), bounds, strict=True))
    if least is None or most is None or least >= most:
        return []
    middle = float(f"{least + (most - least) / 2:.6g}")
    rule = MeaningRule(meaning="unwanted", field=name, below=middle)
    low, count = db.execute(
        f"SELECT count(*) FILTER (WHERE {rule.sql()}), count({identifier(name)}) FROM {relation}"
    ).fetchall()[0]
    if low < _LOW_SHARE * count:
        return []
    return [
        Hint(found=f"{low:,} of {count:,} events have a {name} below {middle:g} ({least:g} to {most:g})", rule=rule)
    ]


def _sounds(name: str, words: tuple[str, ...]) -> bool:
    """Whether a name says one of the words, alone, joined from parts, or beside words like `event` and `item`."""
    tokens = [token for token in _tokens(name) if token not in _BESIDE.split()]
    return any("".join(tokens[i:j]) in words for i in range(len(tokens)) for j in range(i + 1, len(tokens) + 1))


def _tokens(name: str) -> list[str]:
    """Return the words of a name in snake_case, kebab-case, camelCase or with blanks, in lower case and without accents."""
    plain = "".join(letter for letter in normalize("NFKD", name.replace("'", "")) if not combining(letter))
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain)
    return [token.lower() for token in re.split(r"[^A-Za-z0-9]+", apart) if token]
