"""Create the evidence about items: their first users, each with the query just before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "rf_item_evidence",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("timestamp_us", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("query", sa.LargeBinary(), nullable=False),
        sa.Column("features", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_rf_item_evidence"),
        sa.UniqueConstraint("item_id", "user_id", name="uq_rf_item_evidence_item_id_user_id"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("rf_item_evidence")
