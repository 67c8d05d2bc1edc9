"""Scikit-learn and other joblib programs on the processes of the job."""

from trireme.util.joblib.register import register_ray, register_trireme

__all__ = ["register_ray", "register_trireme"]
