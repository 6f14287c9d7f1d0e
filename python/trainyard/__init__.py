"""Trainyard's own Python interface: what ``azureml`` stands on, small and typed.

    from trainyard import Client
    client = Client()                        # starts the daemon of the state folder when none answers
    for run in client.runs(state="active"):
        print(run["id"], run["state"])

Names of Azure ML's SDK v1 are in ``azureml``. Only the standard library is needed.
"""
from trainyard._core import VERSION as __version__
from trainyard.client import Client
from trainyard.errors import TrainyardError
from trainyard.follow import Event

__all__ = ["Client", "Event", "TrainyardError", "__version__"]
