"""Parts of one kind by name: those that come with the platform, those of installed packages, and any by dotted name."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from rf_platform.errors import ConfigError

T = TypeVar("T")


class Parts(dict[str, T], Generic[T]):
    """Table of parts that come with the platform, by name, with a door for others.

    Iteration, ``in`` and ``len`` are about the table alone, so that grids and documents do not depend on what is installed.
    A look-up also finds an entry point of :attr:`group` by its name, and ``package.module:name`` wherever Python finds it.
    """

    def __init__(self, kind: str, parts: Mapping[str, T], made: Callable[[Any], T | None]) -> None:
        """Make a table.

        Args:
            kind: in the plural, such as ``fusions``; entry points of it are in the group ``retrievalformer.fusions``.
            parts: by name.
            made: returns a part from an object that was loaded by name; None where that cannot be one.
        """
        super().__init__(parts)
        self.kind, self.group, self._made = kind, f"retrievalformer.{kind}", made
        self._loaded: dict[str, T] = {}

    def __missing__(self, name: str) -> T:
        return self.find(name, self.kind)

    def find(self, name: str, setting: str) -> T:
        """Return a part by name.

        Args:
            name: of the table, of an entry point, or dotted: ``package.module:name``.
            setting: the setting that names it, for messages.

        Raises:
            ConfigError: there is none of that name, it cannot be imported, or it is something else.
        """
        if name in self:
            return dict.__getitem__(self, name)
        if name not in self._loaded:
            self._loaded[name] = self._load(name, setting)
        return self._loaded[name]

    def _load(self, name: str, setting: str) -> T:
        installed = {each.name: each for each in entry_points(group=self.group)}
        entry = installed.get(name)
        if entry is None:
            module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
            if not module or not attribute:
                *most, last = map(repr, [*self, *installed])
                raise ConfigError(
                    f"{setting}={name!r} must be {', '.join(most)} or {last}; or name your own as package.module:name"
                )
            entry = EntryPoint(name, f"{module}:{attribute}", self.group)
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{setting}={name!r} cannot be imported ({error}); install its package, or put its directory on PYTHONPATH"
            ) from error
        part = self._made(found)
        if part is None:
            raise ConfigError(
                f"{setting}={name!r} is {type(found).__name__} {found!r:.80}, which is none of the {self.kind}"
            )
        return part
