"""What can become of a call to a served model."""


class ServedError(RuntimeError):
    """A served model could not be used; the message is one line and holds no key."""


class CallFailed(ServedError):
    """One call has no reply: refused by itself, or not answered in time."""


class EndpointFailed(ServedError):
    """No call can succeed: wrong key, unknown model, no quota, nobody answers."""


class BudgetReached(ServedError):
    """The next call may cost more than is left."""


class Unreachable(ServedError):
    """Nobody answers at present: the server is not up yet, is gone, or has begun anew."""
