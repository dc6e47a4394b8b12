"""Requests of the browser: sessions, roles, forms, errors and pages, without a word of what the pages show."""
