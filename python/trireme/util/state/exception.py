"""Ray's name of the module with the error."""

from trireme.util.state.schema import RayStateApiException

__all__ = ["RayStateApiException"]
