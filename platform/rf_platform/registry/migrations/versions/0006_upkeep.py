"""Tell trials from other runs, and note of datasets, runs and bundles that their files were removed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
_TABLES = ("rf_datasets", "rf_runs", "rf_bundles")


def upgrade() -> None:
    op.add_column("rf_runs", sa.Column("trial", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE rf_runs SET trial = true WHERE name LIKE 'ablate-%'")
    for table in _TABLES:
        op.add_column(table, sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "removed_at")
    op.drop_column("rf_runs", "trial")
