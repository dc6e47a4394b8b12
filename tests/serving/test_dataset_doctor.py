"""`rf dataset doctor` on a workspace whose views have one row for each item and user."""

import json
from collections.abc import Callable
from pathlib import Path


def test_views_that_do_not_move(
    in_workspace: Path, dataset: object, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run_command("dataset", "doctor", "--json")
    assert code == 0, err
    found = {each["view"]: each for each in json.loads(out)}
    assert {each["finding"] for each in found.values()} == {"does not move"}
    assert {"user_profile", "item_attributes"} == set(found)
    code, out, _ = run_command("dataset", "doctor", "--view", "user_profile")
    assert (code, "user_profile: no event sees another row" in out, "item_attributes" in out) == (0, True, False)
    code, _, err = run_command("dataset", "doctor", "--view", "profile")
    assert (code, "known are item_attributes, user_profile" in err) == (2, True)
