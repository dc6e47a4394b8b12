"""Features: access to Feast, the FeatureSpec read from its registry, vocabularies and the encoding both towers share."""
