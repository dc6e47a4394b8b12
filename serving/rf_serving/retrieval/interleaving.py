"""One list of two bundles: each ranks the catalog for the same user, and they fill the list in turns."""

from dataclasses import replace
from hashlib import blake2b

import numpy as np

from rf_platform.effects import draft
from rf_serving.policies import CompiledPlacement
from rf_serving.retrieval.query import Answer, Query, subject_key


def may_interleave(rules: CompiledPlacement | None) -> bool:
    """Whether the rules of a placement hold for a list that two bundles filled: caps, pins and draws are those of one list."""
    if rules is None:
        return True
    placement = rules.placement
    return not (placement.caps or placement.pins or placement.exploration)


def interleaved(query: Query, first: Answer, second: Answer, salt: str) -> Answer:
    """Return the answer of two bundles by team draft; see :mod:`rf_platform.effects.team_draft`.

    Scores are those of each item's bundle, and fall within the items of one. Equal answers are interleaved alike for the same
    user, so that a page that is loaded again is the same.

    Args:
        query: what was asked.
        first: of the served bundle; everything but the items is its own.
        second: of the challenger.
        salt: of the split.
    """
    answers = (first, second)
    about = repr((salt, first.items, second.items)).encode() + subject_key(query.subject)
    random = np.random.default_rng(int.from_bytes(blake2b(about, digest_size=16).digest()))
    drafted = draft(first.items, second.items, query.k, random)
    ruled = first.ruled
    if ruled is not None and second.ruled is not None:
        rules = (ruled, second.ruled)
        ruled = replace(
            ruled,
            rows=[],
            scores=[],
            sources=[rules[team].sources[place] for team, place in drafted],
            propensities=[0.0] * len(drafted),
            reasons=[],
        )
    return replace(
        first,
        items=[answers[team].items[place] for team, place in drafted],
        scores=[answers[team].scores[place] for team, place in drafted],
        ruled=ruled,
        teams=[answers[team].bundle for team, place in drafted],
        ranked=None,
    )
