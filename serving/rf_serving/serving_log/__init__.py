"""The serving log at work: answers are taken from the request path as they are, and written by a thread of their own."""

from rf_serving.serving_log.answered import Answered
from rf_serving.serving_log.recorder import LogOptions, Recorder

__all__ = ["Answered", "LogOptions", "Recorder"]
