"""Serializers of one's own for classes that do not pickle well."""

from trireme._serialization import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "register_serializer"]
