"""The key vault: values that scripts need and that no source file or log shall hold."""
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional

from azureml.core._service import client, sdk_errors
from azureml.exceptions import UserErrorException
from trainyard import errors

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

__all__ = ["Keyvault"]


class Keyvault:
    """The secrets of a workspace; they are sealed in the state folder. ``ws.get_default_keyvault()`` gives it."""

    def __init__(self, workspace: "Workspace") -> None:
        self.workspace = workspace

    def set_secret(self, name: str, value: str) -> None:
        """Set a secret. UserErrorException for what cannot be a name or a value."""
        if not isinstance(value, str):
            raise UserErrorException("set_secret('%s'): the value is of type %s; a text is needed" % (name, type(value).__name__))
        with sdk_errors():
            client().set_secret(str(name), value)

    def set_secrets(self, secrets_batch: Dict[str, str]) -> None:
        """Set several secrets: {name: value}."""
        for name, value in secrets_batch.items():
            self.set_secret(name, value)

    def get_secret(self, name: str) -> Optional[str]:
        """The value, or None when there is no secret of that name."""
        with sdk_errors():
            try:
                return client().secret(str(name))
            except errors.NotFound:
                return None

    def get_secrets(self, secrets: Iterable[str]) -> Dict[str, Optional[str]]:
        """{name: value or None}."""
        return {name: self.get_secret(name) for name in secrets}

    def list_secrets(self) -> List[Dict[str, Any]]:
        """[{"name": name}]: the names, not the values."""
        with sdk_errors():
            return [{"name": secret["name"]} for secret in client().secrets()]

    def delete_secret(self, name: str) -> None:
        """Remove a secret. UserErrorException when there is none of that name."""
        with sdk_errors():
            client().delete_secret(str(name))

    def delete_secrets(self, secrets: Iterable[str]) -> None:
        """Remove several secrets."""
        for name in secrets:
            self.delete_secret(name)
