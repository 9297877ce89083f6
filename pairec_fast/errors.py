"""Everything that can go wrong, as a caller sees it. Messages name the field, the value and what would be right."""


class PairecError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(PairecError):
    """The configuration cannot be used. The engine does not start; a running one keeps what it has."""


class SnapshotError(PairecError):
    """A snapshot, table, index or model file is missing, altered or does not fit. As fatal as `ConfigError`."""


class RequestError(PairecError):
    """The client's fault. `code` is PAI-Rec's body code, `request_id` what the answer carries."""

    def __init__(self, message: str, *, code: int = 400, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class NotReadyError(PairecError):
    """The engine has no snapshot yet, or is closed."""
