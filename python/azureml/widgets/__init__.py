"""RunDetails: how a run is, as text or, in a notebook, as a table."""
from typing import Any

from azureml._restclient.constants import TERMINAL


class RunDetails:
    """``RunDetails(run).show()`` shows the run as it is now, and returns at once."""

    def __init__(self, run_instance: Any) -> None:
        self._run = run_instance

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        """Show a table in a notebook, text elsewhere."""
        if _in_notebook():
            from IPython.display import HTML, display  # type: ignore[import-not-found]

            display(HTML(self._run._repr_html_()))
            return
        print(repr(self._run))
        if self._run.status not in TERMINAL:
            print("run.wait_for_completion(show_output=True) follows its log; 'trainyard logs -f %s' does so in a terminal"
                  % self._run.id)

    def get_widget_data(self, *_: Any, **__: Any) -> Any:
        """What the run's record holds."""
        return self._run.get_details()


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython  # type: ignore[import-not-found]
    except ImportError:
        return False
    return type(get_ipython()).__name__ == "ZMQInteractiveShell"
