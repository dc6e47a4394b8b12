"""Files that pages refer to: style, scripts and icon, read once and named by their content."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from rf_console.web.headers import STATIC_CACHE

_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class StaticFiles:
    """All files of ``static/``, in memory: no name of a request reaches the file system."""

    def __init__(self) -> None:
        root = files("rf_console") / "static"
        found = {
            name: (folder / name).read_bytes()
            for folder in (root, root / "vendor")
            for name in sorted(each.name for each in folder.iterdir())
            if name.rpartition(".")[2] in _KINDS
        }
        self._files = {
            f"{sha256(content).hexdigest()[:12]}-{name}": (content, _KINDS[name.rpartition(".")[2]])
            for name, content in found.items()
        }
        self.addresses: Mapping[str, str] = {name[13:]: f"/static/{name}" for name in self._files}
        """Address of each file, by its name."""

    async def answer(self, request: Request) -> Response:
        """Answer with a file."""
        name = request.path_params["name"]
        if name not in self._files:
            return Response("there is no such file", 404, media_type="text/plain")
        content, kind = self._files[name]
        return Response(content, media_type=kind, headers={"cache-control": STATIC_CACHE})
