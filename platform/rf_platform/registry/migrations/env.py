"""Run by Alembic: migrate over the connection that :func:`rf_platform.registry.engine.alembic_config` was given.

That connection is in a transaction already, which holds the writers' lock, so all steps succeed or none does.
"""

from typing import Any, Literal

from alembic import context

from rf_platform.registry.models import TABLE_PREFIX, VERSION_TABLE, Base, UtcDateTime


def ours(name: str | None, kind: str, parents: Any) -> bool:
    """Return whether a table is the platform's: other applications may share the database."""
    return kind != "table" or (name or "").startswith(TABLE_PREFIX)


def render(kind: str, value: Any, _: Any) -> str | Literal[False]:
    """Write our own types into a new migration as what the database sees: a migration must not follow the code."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(value, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_name=ours,
    render_item=render,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
