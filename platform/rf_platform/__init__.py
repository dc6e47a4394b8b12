"""Platform layer: settings, feature access, datasets, vocabularies, registry and artifacts."""
