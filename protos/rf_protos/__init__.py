"""Versioned protocol buffers of the platform and their generated stubs."""
