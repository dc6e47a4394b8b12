"""Pages of the console, timed as a browser sees them."""
