"""Create the experiments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "rf_experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("control_id", sa.Integer(), nullable=False),
        sa.Column("challenger_id", sa.Integer(), nullable=False),
        sa.Column("percent", sa.Double(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finding", sa.String(), nullable=True),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["control_id"], ["rf_bundles.id"], name="fk_rf_experiments_control_id"),
        sa.ForeignKeyConstraint(["challenger_id"], ["rf_bundles.id"], name="fk_rf_experiments_challenger_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rf_experiments"),
        sa.UniqueConstraint("name", name="uq_rf_experiments_name"),
    )


def downgrade() -> None:
    op.drop_table("rf_experiments")
