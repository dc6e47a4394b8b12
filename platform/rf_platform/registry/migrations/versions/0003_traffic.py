"""Create the history of splits and shadows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "rf_traffic",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("challenger_id", sa.Integer(), nullable=True),
        sa.Column("percent", sa.Double(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("shadow_id", sa.Integer(), nullable=True),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["challenger_id"], ["rf_bundles.id"], name="fk_rf_traffic_challenger_id"),
        sa.ForeignKeyConstraint(["shadow_id"], ["rf_bundles.id"], name="fk_rf_traffic_shadow_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rf_traffic"),
    )


def downgrade() -> None:
    op.drop_table("rf_traffic")
