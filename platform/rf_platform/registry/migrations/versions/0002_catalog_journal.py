"""Create the journal of the live catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NEWEST = sa.text("superseded_us IS NULL")


def upgrade() -> None:
    op.create_table(
        "rf_catalog_journal",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("features", sa.String(), nullable=True),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("superseded_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name="pk_rf_catalog_journal"),
    )
    op.create_index(
        "uq_rf_catalog_journal_newest",
        "rf_catalog_journal",
        ["item_id"],
        unique=True,
        sqlite_where=_NEWEST,
        postgresql_where=_NEWEST,
    )
    op.create_index("ix_rf_catalog_journal_superseded_us", "rf_catalog_journal", ["superseded_us"])


def downgrade() -> None:
    op.drop_table("rf_catalog_journal")
