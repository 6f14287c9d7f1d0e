"""``run.get_details()``: the record of a run in the cloud's words."""
import copy
import os
from typing import Any, Dict, List, Optional
from urllib.parse import quote

from azureml.core import _packages
from azureml.core.script_run_config import ScriptRunConfig
from trainyard.client import Client
from trainyard.errors import TrainyardError

FINAL_WARNING_SOURCE = "Trainyard"
# What scripts read in runDefinition and no run decides.
CONSTANTS: Dict[str, Any] = {
    "useAbsolutePath": False, "sourceDirectoryDataStore": None,
    "outputData": {}, "jobName": None, "tensorflow": {"workerCount": 1, "parameterServerCount": 1},
}

# Properties whose keys scripts look for. The cloud's files of that name are about its own processes; no run here has them.
PROCESS_FILES = {"ProcessInfoFile": "azureml-logs/process_info.json", "ProcessStatusFile": "azureml-logs/process_status.json"}


class CaseInsensitiveDict(Dict[str, Any]):
    """A dictionary whose keys are found in any case: documents of 2018 say 'Arguments', later ones 'arguments'."""

    def _real(self, key: Any) -> Any:
        if not dict.__contains__(self, key) and isinstance(key, str):
            for there in self:
                if there.lower() == key.lower():
                    return there
        return key

    def __getitem__(self, key: Any) -> Any:
        return dict.__getitem__(self, self._real(key))

    def __contains__(self, key: Any) -> bool:
        return dict.__contains__(self, self._real(key))

    def get(self, key: Any, default: Any = None) -> Any:
        """As for any dictionary."""
        return self[key] if key in self else default


def insensitive(value: Any) -> Any:
    """`value` with CaseInsensitiveDict for every dictionary in it."""
    if isinstance(value, dict):
        return CaseInsensitiveDict((k, insensitive(v)) for k, v in value.items())
    return [insensitive(v) for v in value] if isinstance(value, list) else value


def run_definition(config: ScriptRunConfig, spec: Dict[str, Any]) -> Dict[str, Any]:
    """What the run record keeps for ``runDefinition``; arguments, data references and processes are taken from the specification later.

    Passwords are left out.
    """
    rc = config.run_config
    environment = _packages.shown(rc.environment)
    image = (spec.get("environment") or {}).get("image")
    environment["python"]["interpreterPath"] = spec.get("interpreter") or environment["python"]["interpreterPath"]
    environment["docker"]["enabled"] = bool(image)
    return {
        **copy.deepcopy(CONSTANTS), "framework": str(rc.framework), "communicator": str(rc.communicator or "None"),
        "priority": rc.priority, "environment": environment,
        "autoPrepareEnvironment": bool(rc.auto_prepare_environment),
        "history": rc.history._as_dict(), "spark": rc.spark._as_dict(), "hdi": rc.hdi._as_dict(),
        "amlCompute": rc.amlcompute._as_dict(),
        "docker": {"useDocker": bool(image), "sharedVolumes": True, "shmSize": rc.docker.shm_size or "2g",
                   "arguments": (image or {}).get("arguments", [])},
    }


def details(run: Dict[str, Any], files: List[Dict[str, Any]], home: str) -> Dict[str, Any]:
    """``get_details()`` of RUN (docs/spec/http-api.md) and its FILES; `home` is the state folder."""
    found: Dict[str, Any] = {
        "runId": run["id"], "target": run["target"], "status": run["state"], "startTimeUtc": run["started"]}
    if run["ended"]:
        found["endTimeUtc"] = run["ended"]
    if run.get("error"):
        found["error"] = {"error": {"code": run["error"]["code"], "message": run["error"]["message"], "details": []}}
    if run.get("environment"):
        found["environment"] = run["environment"]
    if run.get("warnings"):
        found["warnings"] = [{"source": FINAL_WARNING_SOURCE, "message": text} for text in run["warnings"]]
    found.update(
        properties=dict(run["properties"]), inputDatasets=_datasets(run.get("spec") or {}), outputDatasets=[], runDefinition=_definition(run.get("spec") or {}),
        logFiles={f["path"]: file_url(home, run["id"], f["path"]) for f in files if f["kind"] == "log"},
        submittedBy=run["user"])
    return found


def _datasets(spec: Dict[str, Any]) -> List[Dict[str, Any]]:
    data = ((spec.get("azureml") or {}).get("runDefinition") or {}).get("data") or {}
    return [{"dataset": one["dataset"], "consumptionDetails": {
        "type": "RunInput", "inputName": name, "mechanism": one["mechanism"], "pathOnCompute": one["pathOnCompute"]}} for name, one in data.items()]


def _definition(spec: Dict[str, Any]) -> CaseInsensitiveDict:
    kept = (spec.get("azureml") or {}).get("runDefinition") or {}
    whole = {"script": spec.get("script"), "command": " ".join(spec.get("command") or []),
             "arguments": list(spec.get("arguments") or []), "target": spec.get("target", "local"),
             "dataReferences": {name: _reference(one) for name, one in (spec.get("data_references") or {}).items()},
             "maxRunDurationSeconds": spec.get("max_run_duration_seconds"),
             "environmentVariables": dict(spec.get("environment_variables") or {}), **_processes(spec)}
    return insensitive({"framework": "Python", "data": {}, "communicator": spec.get("communicator") or "None", **kept, **whole})


def _processes(spec: Dict[str, Any]) -> Dict[str, Any]:
    nodes, per_node = spec.get("node_count") or 1, spec.get("process_count_per_node") or 1
    backend = spec.get("communicator") if str(spec.get("communicator")).lower() in ("gloo", "nccl") else None
    return {"nodeCount": nodes, "mpi": {"processCountPerNode": per_node},
            "pyTorch": {"communicationBackend": backend, "processCount": nodes * per_node if backend else None}}


def _reference(one: Dict[str, Any]) -> Dict[str, Any]:
    return {"dataStoreName": one.get("datastore"), "mode": str(one.get("mode") or "mount").capitalize(),
            "pathOnDataStore": one.get("path") or None, "pathOnCompute": one.get("path_on_compute"),
            "overwrite": bool(one.get("overwrite"))}


def run_url(home: str, run: str) -> str:
    """Where the service describes a run: HTTP over the Unix socket of the state folder."""
    return "http+unix://%s/api/v1/runs/%s" % (quote(os.path.join(home, "sock"), safe=""), quote(run))


def portal_url(service: Client, run: Optional[str] = None, experiment: Optional[str] = None) -> str:
    """The page of a run or of an experiment, for a browser on this machine; where there are no pages, the service's own address."""
    try:
        return service.link(run, experiment)
    except TrainyardError:
        return run_url(service.home, run or "")


def file_url(home: str, run: str, path: str) -> str:
    """The same for one of its files."""
    return "%s/files/%s" % (run_url(home, run), quote(path))
