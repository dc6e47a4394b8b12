"""Bundles, datasets, runs and logs at a URL: pushed where they are made, fetched where they are used.

A directory and its name go in; they are in the object store, or in the workspace of another host, afterwards. What records of
the registry have to do with it is in :mod:`rf_platform.registry.remote_files`.
"""

from rf_platform.object_store.listing import Kind, Listing
from rf_platform.object_store.store import ObjectStore, Pushed

__all__ = ["Kind", "Listing", "ObjectStore", "Pushed"]
