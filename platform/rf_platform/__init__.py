"""Platform layer: settings, command line, data and event log, features, datasets, registry and bundles, doctor."""
