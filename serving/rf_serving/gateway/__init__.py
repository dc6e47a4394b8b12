"""Gateway: calls as HTTP with JSON, turned into the calls that an application answers."""
