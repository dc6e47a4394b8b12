"""Forgetting of a user: erasure from everything that a workspace keeps, and from what is imported later."""

from rf_platform.forget.forgotten import Forgotten, leave_out_forgotten

__all__ = ["Forgotten", "leave_out_forgotten"]
