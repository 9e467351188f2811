"""What a job can be refused for. A bad row is no error: it is a `Reject`."""

from reference import PicobatchError


class InputError(PicobatchError):
    """The input as a whole cannot be read."""


class BadRowError(InputError):
    """A row is bad under `--on-error fail`."""


class NoColumnError(InputError):
    """No file of the input has a column that is asked for.

    Parameters
    ----------
    found : str
        Which one, and what there is.
    remedy : str
        What to do about it; a caller with other words for a column has another one.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found} {remedy}")
        self.found = found


class OutputError(PicobatchError):
    """The output cannot be written, or must not be."""


class ClusterError(PicobatchError):
    """A cluster cannot be reached, or none of its nodes can do the job."""


class TaskError(PicobatchError):
    """A task on a cluster could not be done.

    Attributes
    ----------
    fault : str
        Whose it is: the task's own, as far as one can see.
    """

    fault = "task"


class NodeError(TaskError):
    """The node can do no task of this job."""

    fault = "node"


class StopError(TaskError):
    """No task of this job is to be done any more."""

    fault = "job"


class PlaceError(PicobatchError):
    """A path or an address stands for nothing that can be reached."""


class SettingsError(PicobatchError):
    """A setting is out of range or contradicts another."""


class InterruptedJobError(PicobatchError):
    """A signal stopped the job.

    Parameters
    ----------
    message : str
        What is kept, and how to go on.
    signal : int
        Its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
