"""Small adapters for frozen pretrained encoders over a table of the user's own."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiadapt.encoders.image import ImageEncoder
    from multiadapt.encoders.mlp import MLPEncoder
    from multiadapt.encoders.tabular import TabularEncoder
    from multiadapt.estimators import (
        MultimodalClassifier,
        MultimodalRegressor,
        from_pretrained,
        load,
    )
    from multiadapt.methods._base import Training
    from multiadapt.methods.frozen import Frozen
    from multiadapt.methods.full import Full
    from multiadapt.methods.image_only import ImageOnly
    from multiadapt.methods.tabular_only import TabularOnly
    from multiadapt.methods.ti_adapter import TIAdapter
    from multiadapt.methods.trees import Trees

__version__ = "0.1.0"

__all__ = [
    "Frozen",
    "Full",
    "ImageEncoder",
    "ImageOnly",
    "MLPEncoder",
    "MultimodalClassifier",
    "MultimodalRegressor",
    "TIAdapter",
    "TabularEncoder",
    "TabularOnly",
    "Training",
    "Trees",
    "from_pretrained",
    "load",
]

# Resolved on first use, so that `import multiadapt` and `multiadapt --help` stay quick.
_HOMES = {
    "Frozen": "methods.frozen",
    "Full": "methods.full",
    "ImageEncoder": "encoders.image",
    "ImageOnly": "methods.image_only",
    "MLPEncoder": "encoders.mlp",
    "MultimodalClassifier": "estimators",
    "MultimodalRegressor": "estimators",
    "TIAdapter": "methods.ti_adapter",
    "TabularEncoder": "encoders.tabular",
    "TabularOnly": "methods.tabular_only",
    "Training": "methods._base",
    "Trees": "methods.trees",
    "from_pretrained": "estimators",
    "load": "estimators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multiadapt' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"multiadapt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
