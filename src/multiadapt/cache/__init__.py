"""Frozen computation that is kept on the disk, and read back by later runs."""

from multiadapt.cache._rows import keys_of
from multiadapt.cache._shelf import Shelf
from multiadapt.cache._store import Store

__all__ = ["Shelf", "Store", "keys_of"]
