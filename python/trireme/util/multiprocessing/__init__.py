"""`multiprocessing.Pool` whose processes are actors anywhere in the job."""

from multiprocessing import JoinableQueue, TimeoutError

from trireme.util.multiprocessing.pool import AsyncResult, IMapIterator, Pool

__all__ = ["AsyncResult", "IMapIterator", "JoinableQueue", "Pool", "TimeoutError"]
