"""Settings of a process, read from the environment (``RF_*``); every part has an embedded default."""

import os
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rf_platform.errors import ConfigError
from rf_platform.sql import sqlite_url
from rf_platform.workspace import Workspace


class Settings(BaseSettings):
    """Locations of the platform's data, and the engines used.

    A *workspace* (``RF_HOME``) holds one catalog: its imported tables, feature registry, online store, datasets, runs and
    bundles. Two catalogs live in two workspaces.
    """

    model_config = SettingsConfigDict(env_prefix="RF_", extra="ignore")

    home: Path = Field(default=Path(".rf"), validate_default=True, description="Workspace directory.")
    feature_repo: Path | None = Field(
        default=None, description="Feast repository; default: the one recorded when the tables were imported."
    )
    registry_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the platform's registry; default: SQLite in the workspace."
    )
    feast_registry_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the Feast registry; default: SQLite in the workspace."
    )
    online_store_url: str | None = Field(
        default=None,
        description="redis://host:port/db or postgresql://user:password@host:port/database; default: SQLite in the "
        "workspace.",
    )
    store_url: str | None = Field(
        default=None,
        description="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory: where bundles, datasets "
        "and runs are pushed when they are made, and fetched from where they are not; default: they stay in the workspace.",
    )
    store_cache_mb: int = Field(
        default=20_480, ge=1, description="MiB of all fetched bundles, and of what is kept of earlier ones."
    )
    feature_service: str = Field(default="retrieval", description="Feast feature service the model is built from.")
    events_since: date = Field(
        default=date(1990, 1, 1),
        description="First day of events: earlier ones are refused, most are in another unit of time.",
    )
    events_ahead_seconds: float = Field(
        default=86_400.0, ge=0, description="How far in the future an event may lie, since clocks differ."
    )
    index_device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="What searches the index: cpu, cuda, cuda:N, or auto: a CUDA device if FAISS sees one.",
    )
    index_url: str | None = Field(
        default=None,
        description="Milvus that bundles with an index of kind milvus are built in and served from: "
        "http(s)://[user:password@]host:port[/database]; a database for each workspace.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads; default: half of the cores for torch, all for DuckDB."
    )

    text_encoder: str = Field(
        default="minilm",
        description="Sentence encoder of fields with kind=text in new datasets: minilm, wordllama, or a directory of "
        "sentence-transformers or ONNX.",
    )
    text_cache_mb: int = Field(
        default=2048, ge=0, description="Disk for vectors of texts that were encoded before, in MiB; 0 for none."
    )
    first_events: bool = Field(
        default=True,
        description="Whether servers move the vectors of new and rare items by their first events.",
    )

    event_counts: bool = Field(
        default=True,
        description="Whether servers count the event log, for lists of popular and trending items and for co-occurrence.",
    )
    co_occurrence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of co-occurrence in the score of similar items, where a request does not say: 0 is by item vectors "
        "alone, 1 by what the same users took.",
    )

    rerank: Literal["auto", "none", "exact", "lime"] = Field(
        default="auto",
        description="What orders the items that are found, where a request does not say: none, exact, lime, or auto: lime where "
        "the bundle has a re-ranker, else none.",
    )
    rerank_candidates: int = Field(
        default=1000, ge=1, le=10_000, description="How many items are found to be re-ranked."
    )

    log_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the answers that servers record in the serving log; all while a challenger has some users.",
    )
    log_days: float = Field(default=30.0, gt=0, description="Age in days up to which files of the serving log stay.")
    log_mb: int = Field(
        default=4096, ge=1, description="MiB of all files of the serving log up to which the oldest stay."
    )

    skew_gate: Literal["off", "warn", "refuse"] = Field(
        default="off",
        description="What `rf promote` does where replayed requests differ from what training sees: off, warn, or refuse.",
    )
    skew_allow: str = Field(
        default="",
        description="Accepted shares of differences, comma-separated: SHARE for all fields, FIELD=SHARE for one; default: 0.",
    )
    skew_grace_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Age up to which a stale or missing value is accepted by the gate of `rf promote`.",
    )

    signing_key: Path | None = Field(
        default=None,
        description="Private key (PEM, Ed25519) that new bundles are signed with; default: they are not signed.",
    )
    require_signature: Path | None = Field(
        default=None,
        description="Public keys (PEM, Ed25519): only bundles that one of them has signed are promoted, served or trained from; "
        "default: all are.",
    )

    otel_endpoint: str | None = Field(
        default=None,
        description="Where servers send OpenTelemetry spans, such as http://localhost:4318; default: nowhere.",
    )
    otel_sample: float = Field(default=1.0, ge=0, le=1, description="Share of the calls that get a span.")

    @field_validator("store_url")
    @classmethod
    def _none(cls, url: str | None) -> str | None:
        """Take an empty variable for none: files of variables list them all."""
        return url or None

    @field_validator("home", "feature_repo", "signing_key", "require_signature")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Settle relative paths now: definitions are imported from inside their repository, in another directory."""
        if path is None:
            return None
        if "?" in str(path.resolve()):  # DuckDB takes what follows for options, and its log of changes for another file
            raise ValueError(f"the path {path.resolve()} must not contain '?'")
        return path.resolve()

    @property
    def workspace(self) -> Workspace:
        """The workspace's directories."""
        return Workspace(self.home)

    @property
    def platform_registry_url(self) -> str:
        """SQLAlchemy URL of the platform's registry, with the default filled in."""
        return self.registry_url or sqlite_url(self.workspace.root / "registry.db")


def use_home(home: Path) -> Path:
    """Make ``home`` the workspace of this process and of those it starts; returns it as an absolute path."""
    os.environ["RF_HOME"] = str(home.resolve())
    get_settings.cache_clear()
    return home.resolve()


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read once; ``rf --home`` overrides ``RF_HOME`` before the first call.

    Raises:
        ConfigError: a variable has a value it cannot have.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = f"RF_{str(wrong['loc'][0]).upper()}"
        raise ConfigError(
            f"{name}={os.environ.get(name)!r} is not usable: {wrong['msg']}; change or unset {name}"
        ) from error
