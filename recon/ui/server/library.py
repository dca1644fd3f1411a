"""The subjects that the page can show, each opened when it is first asked for."""

from __future__ import annotations

from pathlib import Path
from threading import Lock, Thread

from recon.bundle.hub import locate_bundle
from recon.bundle.manifest import read_manifest
from recon.environment import BUNDLE
from recon.files import BadFile
from recon.ui.server.studio import Studio, open_studio


def find_bundles(places: str) -> dict[str, Path]:
    """Subject -> folder of its bundle. `places`, separated by commas: bundles, `hub:` references, or folders of bundles.

    Raises BadFile: no bundle there, or two of one subject.
    """
    found = {}
    for place in filter(None, map(str.strip, places.split(","))):
        folder = locate_bundle(place)
        if folder.is_file():
            raise BadFile(f"{BUNDLE}: expected a folder, got the file {folder}: name {folder.parent}")
        inside = sorted(path.parent for path in folder.glob("*/manifest.json"))
        for bundle in inside if inside and not (folder / "manifest.json").exists() else [folder]:
            name = read_manifest(bundle)["name"]
            if name in found:
                raise BadFile(f"two bundles of {name}: {found[name]} and {bundle}: name one of them")
            found[name] = bundle
    if not found:
        raise BadFile(f"{BUNDLE}: expected places of bundles, got {places!r}")
    return found


class Library:
    """Subjects by name; those that have been opened stay open. Raises BadFile if the first one cannot be opened.

    The page begins with `first`, whose models `open_first` opens.
    """

    def __init__(self, folders: dict[str, Path]):
        self.folders, self.names = folders, list(folders)
        self.first, self.open_first = open_studio(folders[self.names[0]])
        self._studios, self._unopened = {self.names[0]: self.first}, {}
        self._lock = Lock()

    def data(self, name: str) -> Studio:
        """A subject, whose models may wait to be opened. Raises BadFile."""
        with self._lock:
            if name not in self._studios:
                self._studios[name], self._unopened[name] = open_studio(self.folders[name], self.first)
            return self._studios[name]

    def studio(self, name: str) -> Studio:
        """A subject whose models are open, or being opened. Raises BadFile."""
        studio = self.data(name)
        with self._lock:
            open_models = self._unopened.pop(name, None)
        if open_models:
            Thread(target=open_models, daemon=True).start()
        return studio
