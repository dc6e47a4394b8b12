"""Progress as plain lines, where there is no terminal."""

import pytest

from rf_platform.cli import console


def test_a_note_before_the_first_step_gives_no_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long preparation tells what it does; how long the rest takes nobody knows yet."""
    now = [0.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    console.err_console.cache_clear()
    with console.track("job", 10) as progress:
        now[0] = 30.0
        progress.advance(0, note="preparing")
        now[0] = 60.0
        progress.advance(5)
    console.err_console.cache_clear()
    assert capsys.readouterr().err.splitlines() == ["job: 0/10 in 30.0 s preparing", "job: 5/10 in 60.0 s, 60 s left"]
