"""YAML files that people write: a key given twice is refused, of which YAML would silently keep the last."""

from collections.abc import Hashable
from typing import Any

import yaml

from rf_platform.errors import ConfigError


class UniqueKeys(yaml.SafeLoader):
    """Loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(content: bytes, named: str) -> Any:
    """Return what a YAML text says.

    Args:
        content: in UTF-8.
        named: what the text is called in messages.

    Raises:
        ConfigError: it is no YAML, or has a key twice.
    """
    try:
        return yaml.load(content.decode("utf-8"), Loader=UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{named} is not valid YAML: {' '.join(str(error).split())}") from error
