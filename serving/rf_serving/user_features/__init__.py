"""Features of users, read from the online store or from a session."""
