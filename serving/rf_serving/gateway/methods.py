"""Methods that the gateway offers, found in the descriptors of the services."""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rf_serving.gateway.json_reader import read_message


class JsonMethod(NamedTuple):
    """Method with one message and one reply."""

    request: type[Message]
    response: type[Message]

    def read(self, body: bytes) -> bytes:
        """Return the request that a body in JSON stands for, serialised.

        Raises:
            UsageError: a field is wrong, or it is no JSON.
        """
        return read_message(self.request, body)

    def write(self, message: bytes) -> bytes:
        """Return a serialised reply in JSON."""
        found = json_format.MessageToDict(self.response.FromString(message))
        return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def json_methods(services: Iterable[ServiceDescriptor]) -> Mapping[str, JsonMethod]:
    """Return the methods of services by their path, ``/package.Service/Method``; those with streams are left out."""
    return {
        f"/{service.full_name}/{method.name}": JsonMethod(
            GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        )
        for service in services
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }
