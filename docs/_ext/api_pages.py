"""Write the API pages from the ``__all__`` of each public room, before Sphinx looks for source files.

A name that several rooms export has one page, at its deepest address. References to its other addresses lead there too.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.util.nodes import make_refnode


def public_members(cls: type) -> list[str]:
    """Return the public methods and properties that prmkit itself defines for a class."""
    members = []
    for owner in cls.__mro__:
        if not owner.__module__.startswith("prmkit"):
            continue
        for name, value in vars(owner).items():
            is_member = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
            is_cached = type(value).__name__ == "cached_property"
            if not name.startswith("_") and (is_member or is_cached) and name not in members:
                members.append(name)
    return members


def names_of(room: ModuleType) -> list[str]:
    """Return the exported names of a room that are not rooms themselves."""
    return [name for name in room.__all__ if not inspect.ismodule(getattr(room, name))]


def addresses(rooms: list[str]) -> dict[str, str]:
    """Return the address of the page of each exported name, by every address that it is exported under."""
    deepest: dict[int, str] = {}
    found: dict[str, int] = {}
    for name in sorted(rooms, key=lambda name: (name.count("."), rooms.index(name))):
        room = importlib.import_module(name)
        for exported in names_of(room):
            thing = getattr(room, exported)
            deepest[id(thing)] = f"{name}.{exported}"
            found[f"{name}.{exported}"] = id(thing)
    return {address: deepest[thing] for address, thing in found.items()}


def object_page(address: str) -> str:
    """Return the source of the page of one class, function or constant."""
    room, _, name = address.rpartition(".")
    thing = getattr(importlib.import_module(room), name)
    lines = [name, "=" * len(name), "", f".. currentmodule:: {room}", ""]
    if inspect.isclass(thing):
        lines += [f".. autoclass:: {name}"]
        if members := public_members(thing):
            lines += [f"   :members: {', '.join(members)}"]
    elif callable(thing):
        lines += [f".. autofunction:: {name}"]
    else:
        lines += [f".. autodata:: {name}", "   :no-value:"]
    return "\n".join([*lines, ""])


def room_page(name: str, pages: dict[str, str]) -> str:
    """Return the source of the page of a room: its first sentence, and a table of its names."""
    room = importlib.import_module(name)
    summary = (inspect.getdoc(room) or "").split("\n\n")[0]
    lines = [name, "=" * len(name), "", summary, ""]
    groups: dict[str, list[str]] = {"Classes": [], "Functions": [], "Constants": []}
    for exported in names_of(room):
        thing: Any = getattr(room, exported)
        kind = "Classes" if inspect.isclass(thing) else "Functions" if callable(thing) else "Constants"
        groups[kind].append(pages[f"{name}.{exported}"])
    for title, members in groups.items():
        if members:
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "   :nosignatures:", ""]
            lines += [f"   ~{address}" for address in sorted(members, key=str.casefold)]
            lines += [""]
    own = [address for address in sorted(pages.values()) if address.rpartition(".")[0] == name]
    if own:
        lines += [".. toctree::", "   :hidden:", ""]
        lines += [f"   generated/{address}" for address in dict.fromkeys(own)]
    return "\n".join([*lines, ""])


def write_pages(app: Any, config: Any) -> None:
    """Write ``api/``: an index, a page per room, and a page per name."""
    folder = Path(app.srcdir) / "api"
    wanted: dict[Path, str] = {}
    pages = addresses(config.api_rooms)
    for address in set(pages.values()):
        wanted[folder / "generated" / f"{address}.rst"] = object_page(address)
    for room in config.api_rooms:
        wanted[folder / f"{room}.rst"] = room_page(room, pages)
    index = ["API", "===", "", "Each page lists the public names of one room.", "", ".. toctree::", ""]
    wanted[folder / "index.rst"] = "\n".join([*index, *(f"   {room}" for room in config.api_rooms), ""])
    if folder.is_dir():
        for old in set(folder.rglob("*.rst")) - set(wanted):
            old.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # An unchanged file keeps its date, so that Sphinx does not read it again.
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    app.api_addresses = pages


def resolve_alias(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Lead a reference such as ``prmkit.StepDataset`` to the page of ``prmkit.data.StepDataset``."""
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    for candidate in (target, f"{node.get('py:module')}.{target}", f"prmkit.{target}"):
        owner, _, last = candidate.rpartition(".")
        for address, member in ((candidate, ""), (owner, last)):
            page = app.api_addresses.get(address)
            full = f"{page}.{member}" if member else page
            found = env.get_domain("py").objects.get(full) if page else None
            if found is not None:
                return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, full)
    return None


def setup(app: Any) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("api_rooms", [], "env")
    app.connect("config-inited", write_pages)
    app.connect("missing-reference", resolve_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
