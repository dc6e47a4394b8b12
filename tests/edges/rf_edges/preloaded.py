"""What commands import, imported once for all processes of the tests."""

import duckdb  # noqa: F401
import feast.infra.online_stores.sqlite
import feast.infra.registry.sql
import feast.repo_operations  # noqa: F401
import prometheus_client  # noqa: F401  (before Feast)

import rf_platform.cli.app
import rf_platform.data.commands
import rf_platform.data.importer
import rf_platform.dataset.build
import rf_platform.doctor.checks
import rf_platform.features.apply
import rf_platform.features.materialize  # noqa: F401
