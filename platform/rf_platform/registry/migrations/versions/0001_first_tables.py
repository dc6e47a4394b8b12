"""Create datasets, runs, bundles and deployments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "rf_datasets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("counts", json, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rf_datasets"),
        sa.UniqueConstraint("name", name="uq_rf_datasets_name"),
    )
    op.create_table(
        "rf_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("config", json, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("metrics", json, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=True),
        sa.CheckConstraint("status IN ('running', 'completed', 'failed')", name=op.f("ck_rf_runs_runstatus")),
        sa.ForeignKeyConstraint(["dataset_id"], ["rf_datasets.id"], name="fk_rf_runs_dataset_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rf_runs"),
        sa.UniqueConstraint("name", name="uq_rf_runs_name"),
    )
    op.create_table(
        "rf_bundles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("manifest_sha256", sa.String(), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("metrics", json, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["rf_runs.id"], name="fk_rf_bundles_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rf_bundles"),
        sa.UniqueConstraint("name", name="uq_rf_bundles_name"),
    )
    op.create_table(
        "rf_deployments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bundle_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.CheckConstraint("action IN ('promote', 'rollback')", name=op.f("ck_rf_deployments_action")),
        sa.ForeignKeyConstraint(["bundle_id"], ["rf_bundles.id"], name="fk_rf_deployments_bundle_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rf_deployments"),
    )


def downgrade() -> None:
    for table in ("rf_deployments", "rf_bundles", "rf_runs", "rf_datasets"):
        op.drop_table(table)
