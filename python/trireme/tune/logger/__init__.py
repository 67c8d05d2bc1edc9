"""Loggers: where results are written."""

from trireme.tune.logger.files import CSVLoggerCallback, JsonLoggerCallback
from trireme.tune.logger.logger import LoggerCallback
from trireme.tune.logger.tensorboard import TBXLoggerCallback

DEFAULT_LOGGERS = (CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback)

__all__ = ["DEFAULT_LOGGERS", "CSVLoggerCallback", "JsonLoggerCallback", "LoggerCallback", "TBXLoggerCallback"]
