"""A user's own grid: a YAML file of groups, variants and settings."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.nodes import MappingNode

from rf_platform.errors import ConfigError, NotFoundError, RfError, UsageError
from rf_training.experiments.grid import Group

EXAMPLE = "groups: {NAME: {variants: {NAME: {model.max_history: 10}}}}"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = ""
    fixed: dict[str, str] = Field(default_factory=dict)
    variants: dict[str, dict[str, str]]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    groups: dict[str, _Group] = Field(min_length=1)


class _Texts(yaml.BaseLoader):
    """Leaves every value the text it is, as `--set` takes it (`off` is a name, not false), and refuses a key given twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := next((key for key in keys if keys.count(key) > 1), None):
            raise ConfigError(
                f"{repeated!r} is there twice, the second time in line {node.end_mark.line + 1} or before"
            )
        return super().construct_mapping(node, deep)


def read_grid(path: Path) -> dict[str, Group]:
    """Read a grid from a file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: the file is no YAML, or has another form.
        ConfigError: a group is not usable.
    """
    if not path.is_file():
        raise NotFoundError(f"grid {path} is not there; name a YAML file, or a grid that `rf ablate --help` lists")
    try:
        content = yaml.load(path.read_text(), _Texts)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"grid {path} is no YAML: {' '.join(str(error).split())}") from error
    except RfError as error:
        raise ConfigError(f"grid {path}: {error}") from error
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = " > ".join(map(str, wrong["loc"])) or "the file"
        raise UsageError(f"grid {path}: {place}: {_reason(wrong)}; the form is {EXAMPLE}") from error
    try:
        return {
            name: Group(
                name=name,
                title=group.title or name.replace("_", " ").capitalize(),
                fixed=group.fixed,
                variants=group.variants,
            )
            for name, group in file.groups.items()
        }
    except RfError as error:
        raise ConfigError(f"grid {path}: {error}") from error


def _reason(wrong: Any) -> str:
    reasons = {
        "extra_forbidden": "not known here",
        "missing": "missing",
        "string_type": "one value is expected here, not a list or a mapping",
        "dict_type": "a mapping is expected here",
        "model_type": "a mapping is expected here",
        "too_short": "empty",
    }
    return reasons.get(wrong["type"], str(wrong["msg"]))
