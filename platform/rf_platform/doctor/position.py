"""Check of the online store against the event log: whether it has the load and the events that it had."""

from rf_platform.doctor.check import Finding, fail, ok, warn
from rf_platform.interrupts import raise_if_received
from rf_platform.settings import Settings

_REMEDIES = {
    "behind": "a running `rf serve` applies the missing events again by itself; start one",
    "unloaded": "a running `rf serve` beside the tables loads it again by itself; or run `rf features materialize`",
    "foreign": (
        "check RF_ONLINE_STORE_URL and RF_REGISTRY_URL; restore the newer event log, or have the store follow this one with "
        "`rf features materialize`, which drops what the log does not have"
    ),
}


def check_store_position(settings: Settings) -> Finding:
    """Check that the online store has what was materialised and applied."""
    from rf_platform.failures import summary
    from rf_platform.features.store import open_store
    from rf_platform.features.store_marks import Standing, standing_of

    try:
        compared = standing_of(settings, open_store(settings))
    except Exception as error:  # each online store raises its own classes
        raise_if_received()
        return warn(
            f"the marks of the online store cannot be read: {summary(error)}", "see the check of the online store"
        )
    match compared.standing:
        case Standing.CURRENT | Standing.FINISHING:
            return ok(f"the online store has the last load, and events up to number {compared.position:,}")
        case Standing.UNMARKED:
            return warn(
                "the online store has no marks: it would not be noticed if it went back in time",
                "`rf features materialize`, or start `rf serve`",
            )
        case Standing.FOREIGN:
            return fail(compared.detail, _REMEDIES["foreign"])
        case _:
            return warn(compared.detail, _REMEDIES[compared.standing.value])
