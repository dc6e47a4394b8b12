"""Service of the server: its contract, its servicer and the roles that its methods need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from rf_serving.server.roles import METHOD_ROLES, Role


@dataclass(frozen=True, kw_only=True)
class Service:
    """A servicer that was built, ready to be added to a server."""

    descriptor: ServiceDescriptor
    """The service in its ``.proto`` file: ``catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]``."""
    servicer: Any
    """Answers the calls with coroutines; raises :class:`~rf_platform.errors.RfError` for what is not possible."""
    add: Callable[[Any, Any], None]
    """The generated function that adds the servicer to a server."""

    def __post_init__(self) -> None:
        """Make sure that every method has a role: nothing is open by omission."""
        methods = {method.name for method in self.descriptor.methods}
        assert set(self.roles) == methods, f"{self.name}: roles for {sorted(self.roles)}, methods {sorted(methods)}"

    @property
    def roles(self) -> Mapping[str, Role]:
        """Role that each method needs, by the method's name."""
        return METHOD_ROLES.get(self.descriptor.name, {})

    @property
    def name(self) -> str:
        """Full name, such as ``retrievalformer.v1.RetrievalService``."""
        return str(self.descriptor.full_name)
