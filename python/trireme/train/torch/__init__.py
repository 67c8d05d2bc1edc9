"""Training with PyTorch. torch itself is imported where it is used, not here."""

from trireme.train.torch._config import TorchConfig
from trireme.train.torch._device import get_device, get_devices
from trireme.train.torch._prepare import enable_reproducibility, prepare_data_loader, prepare_model
from trireme.train.torch._trainer import TorchTrainer

__all__ = [
    "TorchConfig",
    "TorchTrainer",
    "enable_reproducibility",
    "get_device",
    "get_devices",
    "prepare_data_loader",
    "prepare_model",
]
