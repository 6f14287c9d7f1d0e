"""Where images come from."""
from typing import Any, Dict, Optional

from azureml.core._section import Section, text_of


class ContainerRegistry(Section):
    """address, username and password of a registry; from which the image of a run comes. The password goes to no file and into
    no record of a run: it is kept as a secret of the keyvault."""

    _saved = {"address": text_of, "username": text_of, "password": text_of}
    _elsewhere = frozenset({"registryidentity"})

    def __init__(self) -> None:
        self.address: Optional[str] = None
        self.username: Optional[str] = None
        self.password: Optional[str] = None

    def _as_dict(self) -> Dict[str, Any]:
        return {"address": self.address, "username": self.username, "password": None}

    def __repr__(self) -> str:
        return "ContainerRegistry(address=%r, username=%r)" % (self.address, self.username)
