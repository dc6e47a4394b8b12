"""A gRPC service of the server, and who may call its methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor


class Role(IntEnum):
    """What a caller may do; each role may do what the ones before it may."""

    READ = 1
    """Ask for items, and look at the catalog and at what is served."""
    WRITE = 2
    """Also change the catalog and record events."""
    ADMIN = 3
    """Everything."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A servicer that was built, ready to be added to a server."""

    descriptor: ServiceDescriptor
    """The service in its ``.proto`` file: ``catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]``."""
    servicer: Any
    """Answers the calls with coroutines; raises :class:`~rf_platform.errors.RfError` for what is not possible."""
    add: Callable[[Any, Any], None]
    """The generated function that adds the servicer to a server."""
    roles: Mapping[str, Role]
    """The role that each method needs, by the method's name."""

    def __post_init__(self) -> None:
        """Every method has a role: nothing is open by omission."""
        methods = {method.name for method in self.descriptor.methods}
        assert set(self.roles) == methods, f"{self.name}: roles for {sorted(self.roles)}, methods {sorted(methods)}"

    @property
    def name(self) -> str:
        """Full name, such as ``retrievalformer.v1.RetrievalService``."""
        return str(self.descriptor.full_name)
