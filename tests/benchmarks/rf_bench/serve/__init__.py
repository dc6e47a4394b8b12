"""Load on a real server: `rf bench serve`."""
