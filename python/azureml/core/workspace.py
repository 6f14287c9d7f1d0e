"""The workspace: everything that one Trainyard installation (a state folder) holds.

There is one workspace per installation. Its name, subscription and resource group are labels: scripts that name theirs find it
under that name.
"""
import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from azureml.core._section import write_text
from azureml.core._service import client, cloud_only, later, sdk_errors
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.compute_target import ComputeTarget
    from azureml.core.datastore import Datastore
    from azureml.core.experiment import Experiment
    from azureml.core.keyvault import Keyvault
    from azureml.core.run import Run

DEFAULT_NAME = "trainyard"
LOCATION = "local"
KEYS = ("subscription_id", "resource_group", "workspace_name")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,32}\Z")


class CallableDict(Dict[str, Any]):
    """A dictionary that scripts of 2018 may also call, for the list of its values."""

    def __call__(self) -> List[Any]:
        return list(self.values())


class _NothingYet(CallableDict):
    """What a later release fills: no more than what is `there`, and any other name is refused."""

    def __init__(self, what: str, instead: str, there: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(there)
        self._what, self._instead = what, instead

    def __missing__(self, name: Any) -> Any:
        raise later("%s ('%s')" % (self._what, name), self._instead, key=True)


class Workspace:
    """The installation that ``$TRAINYARD_HOME`` (or its default) names.

    Usually from ``Workspace.from_config()``, which needs no file. subscription_id, resource_group and workspace_name are
    kept as they are given, and so is auth; the other parameters mean something only in the cloud.
    """

    def __init__(self, subscription_id: str, resource_group: str, workspace_name: str, auth: Any = None,
                 _location: Optional[str] = None, _disable_service_check: bool = False, _workspace_id: Optional[str] = None,
                 sku: str = "basic", tags: Optional[Dict[str, str]] = None, _cloud: str = "AzureCloud") -> None:
        for what, value in zip(KEYS, (subscription_id, resource_group, workspace_name)):
            if not isinstance(value, str) or not value:
                raise UserErrorException("%s is %r; a text that is not empty is needed" % (what, value))
        if not _NAME.match(workspace_name):
            raise UserErrorException("'%s' cannot be the name of a workspace: it has 2 to 33 letters, digits, '-' or '_', and "
                                     "begins with a letter or digit" % workspace_name)
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.name = workspace_name
        self.location = _location or LOCATION
        self.sku = sku
        self.tags = dict(tags or {})
        self._workspace_id = _workspace_id or workspace_name
        self._auth = auth

    @staticmethod
    def from_config(path: Optional[str] = None, auth: Any = None, _logger: Any = None,
                    _file_name: Optional[str] = None) -> "Workspace":
        """The workspace of the nearest ``config.json``, or the default one when there is none.

        path: a config file, or the folder to begin at (default: the current one); each folder up to the root is looked at:
            ``.azureml/``, ``aml_config/`` and the folder itself. UserErrorException for a `path` that does not exist and
            for a config file that is damaged or lacks a key.
        """
        start = Path(path or ".").expanduser()
        if not start.exists():
            raise UserErrorException("Workspace.from_config: path '%s' does not exist" % path)
        if start.is_file():
            values = _read_config(start, True)
        else:
            values = _find_config(start.resolve(), _file_name or "config.json")
        if values is None:
            return Workspace(DEFAULT_NAME, DEFAULT_NAME, DEFAULT_NAME, auth)
        return Workspace(*(values[k] for k in KEYS), auth=auth)

    @staticmethod
    def get(name: str, auth: Any = None, subscription_id: Optional[str] = None, resource_group: Optional[str] = None,
            **_: Any) -> "Workspace":
        """The workspace under the given labels: every installation has it."""
        return Workspace(subscription_id or DEFAULT_NAME, resource_group or DEFAULT_NAME, name, auth)

    @staticmethod
    def create(name: str, auth: Any = None, subscription_id: Optional[str] = None, resource_group: Optional[str] = None,
               location: Optional[str] = None, create_resource_group: bool = True, sku: str = "basic",
               exist_ok: bool = False, show_output: bool = True, tags: Optional[Dict[str, str]] = None, **cloud: Any) -> "Workspace":
        """The workspace under the given labels; there is nothing to create, so exist_ok changes nothing."""
        for key in ("friendly_name", "storage_account", "key_vault", "app_insights", "container_registry", "cmk_keyvault",
                    "resource_cmk_uri", "hbi_workspace"):
            cloud_only("Workspace.create: " + key, bool(cloud.pop(key, None)))
        if cloud:
            raise UserErrorException("Workspace.create has no parameter '%s'" % next(iter(cloud)))
        return Workspace(subscription_id or DEFAULT_NAME, resource_group or DEFAULT_NAME, name, auth, _location=location, sku=sku,
                         tags=tags)

    @staticmethod
    def list(subscription_id: Optional[str] = None, auth: Any = None, resource_group: Optional[str] = None) -> Dict[str, Any]:
        """name -> [Workspace]: the one workspace of the installation, under its own name and the given labels."""
        return {DEFAULT_NAME: [Workspace(subscription_id or DEFAULT_NAME, resource_group or DEFAULT_NAME, DEFAULT_NAME, auth)]}

    def write_config(self, path: Optional[str] = None, file_name: Optional[str] = None) -> None:
        """Write ``<path>/.azureml/config.json`` (default path: the current folder), for ``from_config``.

        UserErrorException when it cannot be written.
        """
        values = dict(zip(KEYS, (self.subscription_id, self.resource_group, self.name)))
        write_text(str(Path(path or ".").expanduser() / ".azureml" / (file_name or "config.json")), json.dumps(values, indent=4) + "\n",
                   "Workspace.write_config:")

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Always UserErrorException: a workspace is the whole installation, which a script does not remove."""
        raise UserErrorException("Workspace.delete: the workspace '%s' is the Trainyard installation in the folder '%s'; stop it with "
                                 "'trainyard down' and remove that folder to delete all its runs and data" % (self.name, client().home))

    @property
    def compute_targets(self) -> CallableDict:
        """name -> ComputeTarget."""
        from azureml.core.compute_target import ComputeTarget

        return CallableDict((t.name, t) for t in ComputeTarget.list(self))

    @property
    def datastores(self) -> CallableDict:
        """name -> Datastore."""
        from azureml.core.datastore import Datastore

        with sdk_errors():
            return CallableDict((d["name"], Datastore._of(self, d)) for d in client().datastores())

    @property
    def experiments(self) -> CallableDict:
        """name -> Experiment, of those that have runs."""
        from azureml.core.experiment import Experiment

        with sdk_errors():
            return CallableDict((e["name"], Experiment(self, e["name"])) for e in client().experiments())

    @property
    def environments(self) -> CallableDict:
        """name -> Environment: the latest versions of registered ones, and the curated ones."""
        from azureml.core.environment import Environment

        return CallableDict(Environment.list(self))

    @property
    def datasets(self) -> CallableDict:
        """name -> the latest version of each registered dataset."""
        from azureml.core.dataset import Dataset

        return CallableDict(Dataset.get_all(self))

    @property
    def models(self) -> CallableDict:
        """Empty: this release registers no models."""
        return _NothingYet("a registered model", "keep models in outputs/, and get them with run.download_file()")

    @property
    def images(self) -> CallableDict:
        """Empty: this release has no images."""
        return _NothingYet("an image", "runs are processes of this box and need none")

    @property
    def webservices(self) -> CallableDict:
        """Empty: this release has no web services."""
        return _NothingYet("a web service", "load the model from outputs/ in a program of your own")

    @property
    def linked_services(self) -> CallableDict:
        """Empty: nothing is linked."""
        return _NothingYet("a linked service", "leave it out")

    def set_default_datastore(self, name: str) -> None:
        """Make a datastore the default one. UserErrorException when there is none of that name."""
        from azureml.core.datastore import Datastore

        Datastore(self, getattr(name, "name", name)).set_as_default()

    def get_default_keyvault(self) -> "Keyvault":
        """The secrets of the workspace."""
        from azureml.core.keyvault import Keyvault

        return Keyvault(self)

    def get_mlflow_tracking_uri(self, *_: Any, **__: Any) -> str:
        """Comes with a later release: UserErrorException."""
        raise later("Workspace.get_mlflow_tracking_uri",
                    "log with Run.get_context().log(), or set MLFLOW_TRACKING_URI to a server of yours")

    def get_default_datastore(self) -> "Datastore":
        """The datastore that scripts use when they name none: ``workspaceblobstore``, until another is made it."""
        from azureml.core.datastore import Datastore

        return Datastore.get_default(self)

    def get_default_compute_target(self, type: str = "CPU") -> "Optional[ComputeTarget]":  # noqa: A002 - the SDK's word
        """This box ('CPU'; for 'GPU' it has to have one), or None."""
        from azureml.core.compute_target import ComputeTarget

        if str(type).upper() not in ("CPU", "GPU"):
            raise UserErrorException("get_default_compute_target: type is '%s', and may be 'CPU' or 'GPU'" % type)
        with sdk_errors():
            gpus = client().target("local")["gpus"]
        return ComputeTarget(self, "local") if gpus or str(type).upper() == "CPU" else None

    def get_run(self, run_id: str) -> "Run":
        """The run of that id, whatever its experiment. UserErrorException when there is none."""
        from azureml.core.run import Run

        return Run.get(self, run_id)

    def get_details(self) -> Dict[str, Any]:
        """id, name, location, type and the other keys that the cloud gives; what has no meaning here is ''."""
        with sdk_errors():
            home = client().home
            # The default datastore is made with the installation.
            created = next((d["created"] for d in client().datastores() if d.get("default")), None)
        details: Dict[str, Any] = dict.fromkeys((
            "description", "containerRegistry", "keyVault", "applicationInsights", "identityPrincipalId",
            "identityTenantId", "identityType"), "")
        details.update(id="/subscriptions/%s/resourceGroups/%s/providers/Microsoft.MachineLearningServices/workspaces/%s"
                       % (self.subscription_id, self.resource_group, self.name),
                       name=self.name, location=self.location, type="Microsoft.MachineLearningServices/workspaces",
                       workspaceid=self._workspace_id, friendlyName=self.name, creationTime=created,
                       storageAccount=home)
        return details

    def __repr__(self) -> str:
        return ("Workspace.create(name='%s', subscription_id='%s', resource_group='%s')"
                % (self.name, self.subscription_id, self.resource_group))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def _find_config(start: Path, name: str) -> Optional[Dict[str, str]]:
    for folder in (start, *start.parents):
        for place, ours in ((folder / ".azureml" / name, True), (folder / "aml_config" / name, True), (folder / name, False)):
            if place.is_file():
                values = _read_config(place, ours)
                if values is not None:
                    return values
    return None


def _read_config(path: Path, ours: bool) -> Optional[Dict[str, str]]:
    """The three keys. None: a file of another program, when nothing but its name says that it is `ours`."""
    where = "the workspace configuration '%s'" % path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserErrorException("%s cannot be read: %s" % (where, error.strerror), error) from None
    except ValueError as error:
        raise UserErrorException("%s is not valid JSON: %s; write it anew with Workspace.write_config(), or remove it to use "
                                 "the default workspace" % (where, error), error) from None
    if not ours and not (isinstance(values, dict) and any(k in values for k in KEYS)):
        return None
    for key in KEYS:
        if not isinstance(values, dict) or not isinstance(values.get(key), str) or not values[key]:
            raise UserErrorException("%s lacks the text '%s'; it needs %s" % (where, key, ", ".join("'%s'" % k for k in KEYS)))
    return values
