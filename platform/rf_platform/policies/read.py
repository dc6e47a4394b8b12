"""A policy read from YAML; every key is checked, and all that is wrong is named at once."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.failures import reading
from rf_platform.policies.policy import Policy
from rf_platform.yaml_file import read_yaml


def load_policy(path: Path) -> tuple[Policy, str]:
    """Return the policy in a file, and the text of the file.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no YAML, or a key or value is wrong; the message names all of them.
    """
    if not path.is_file():
        raise NotFoundError(f"no policy file {path}; give the path of one, docs/policies.md has an example")
    with reading(path, "correct it", ConfigError):
        content = path.read_bytes()
    return read_policy(content, str(path)), content.decode("utf-8")


def read_policy(text: str | bytes, named: str) -> Policy:
    """Return the policy of a text.

    Args:
        text: YAML.
        named: what the text is called in messages.

    Raises:
        ConfigError: it is no YAML, or a key or value is wrong; the message names all of them.
    """
    data = read_yaml(text.encode() if isinstance(text, str) else text, named)
    if not isinstance(data, dict):
        raise ConfigError(f"{named} must be a mapping with the keys {', '.join(Policy.model_fields)}; correct it")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        errors = [
            e for e in error.errors() if e["type"] != "too_short" or not e["input"]
        ]  # short as parts of it are wrong
        raise ConfigError(f"{named}: {'; '.join(_explain(e) for e in errors)}") from error


def _explain(error: Any) -> str:
    place = _place(error["loc"])
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        near = get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"unknown key {place!r}; " + (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
        )
    message = error["msg"].removeprefix("Value error, ")
    given = f" (given: {error['input']!r})" if isinstance(error["input"], str | int | float) else ""
    return f"{place}: {message}{given}" if place else message


def _place(loc: tuple[str | int, ...]) -> str:
    """Return the path of a field: ``placements.home.caps[0].most``."""
    place, before = "", None
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part not in (before, "text", "[key]"):  # a condition's kind comes before its key
            place += f".{part}" if place else part
        before = part
    return place


def _keys_at(loc: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the model at a path knows, as they are written."""
    kind: Any = Policy
    for part in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found = {field.alias or name: field for name, field in kind.model_fields.items()}
            if str(part) not in found:
                return []
            kind = found[str(part)].annotation
        else:  # a tuple, or a mapping with names
            kind = _model_in(kind)
    model = _model_in(kind)
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _model_in(kind: Any) -> type[BaseModel] | None:
    """Return the model in a tuple, a mapping, or something that may be None; None if there is none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for arg in get_args(kind) if (found := _model_in(arg)) is not None), None)
