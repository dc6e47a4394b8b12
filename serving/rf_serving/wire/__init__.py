"""Values as messages and files carry them: ids, features, JSON lines."""
