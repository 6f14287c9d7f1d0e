"""Small helpers for threads."""
import threading


def in_thread(target, args=(), name=None, daemon=True, silent=False):
    """Run target(*args) in a thread that has been started; `silent` swallows its exception."""
    if not isinstance(args, tuple):
        raise ValueError("args must be a tuple, not %s; for a single argument use (arg,)" % type(args).__name__)

    def quiet(*values):
        try:
            target(*values)
        except Exception:
            pass

    thread = threading.Thread(target=quiet if silent else target, args=args, name=name, daemon=daemon)
    thread.start()
    return thread
