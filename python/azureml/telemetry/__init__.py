"""There is no telemetry; the name is kept because notebooks call it."""


def set_diagnostics_collection(send_diagnostics: bool = True, *_: object, **__: object) -> None:
    """Does nothing: no diagnostics are ever sent."""
