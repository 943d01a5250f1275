"""Small adapters for frozen pretrained encoders over a table of the user's own."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiadapt.adapters.bottleneck import Bottleneck
    from multiadapt.adapters.conv_bottleneck import ConvBottleneck
    from multiadapt.adapters.ia3 import IA3
    from multiadapt.adapters.lora import LoRA
    from multiadapt.adapters.unified import Unified
    from multiadapt.answerer import QuestionAnswerer
    from multiadapt.captioner import Captioner
    from multiadapt.crossmodal._retrieval import Contrast
    from multiadapt.crossmodal.blip import Blip
    from multiadapt.crossmodal.dual import Dual
    from multiadapt.encoders.audio import AudioEncoder
    from multiadapt.encoders.image import ImageEncoder
    from multiadapt.encoders.mlp import MLPEncoder
    from multiadapt.encoders.tabular import TabularEncoder
    from multiadapt.encoders.text import TextEncoder
    from multiadapt.encoders.vector import VectorEncoder
    from multiadapt.encoders.video import VideoEncoder
    from multiadapt.estimators import (
        MultimodalClassifier,
        MultimodalRegressor,
        from_pretrained,
        load,
    )
    from multiadapt.many import load_many
    from multiadapt.methods._base import Training
    from multiadapt.methods.bitfit import BitFit
    from multiadapt.methods.frozen import Frozen
    from multiadapt.methods.full import Full
    from multiadapt.methods.houlsby import Houlsby
    from multiadapt.methods.ia3 import PlainIA3
    from multiadapt.methods.image_only import ImageOnly
    from multiadapt.methods.lora import PlainLoRA
    from multiadapt.methods.tabular_only import TabularOnly
    from multiadapt.methods.ti_adapter import TIAdapter
    from multiadapt.methods.trees import Trees
    from multiadapt.methods.u2a import U2A
    from multiadapt.methods.uniadapter import UniAdapter
    from multiadapt.missing.token import MaskToken
    from multiadapt.missing.zero import Zero
    from multiadapt.retriever import CrossModalRetriever

__version__ = "0.1.0"

__all__ = [
    "AudioEncoder",
    "BitFit",
    "Blip",
    "Bottleneck",
    "Captioner",
    "Contrast",
    "ConvBottleneck",
    "CrossModalRetriever",
    "Dual",
    "Frozen",
    "Full",
    "Houlsby",
    "IA3",
    "ImageEncoder",
    "ImageOnly",
    "LoRA",
    "MLPEncoder",
    "MaskToken",
    "MultimodalClassifier",
    "MultimodalRegressor",
    "PlainIA3",
    "PlainLoRA",
    "QuestionAnswerer",
    "TIAdapter",
    "TabularEncoder",
    "TabularOnly",
    "TextEncoder",
    "Training",
    "Trees",
    "U2A",
    "UniAdapter",
    "Unified",
    "VectorEncoder",
    "VideoEncoder",
    "Zero",
    "from_pretrained",
    "load",
    "load_many",
]

# Resolved on first use, so that `import multiadapt` and `multiadapt --help` stay quick.
_HOMES = {
    "AudioEncoder": "encoders.audio",
    "BitFit": "methods.bitfit",
    "Blip": "crossmodal.blip",
    "Bottleneck": "adapters.bottleneck",
    "Captioner": "captioner",
    "Contrast": "crossmodal._retrieval",
    "ConvBottleneck": "adapters.conv_bottleneck",
    "CrossModalRetriever": "retriever",
    "Dual": "crossmodal.dual",
    "Frozen": "methods.frozen",
    "Full": "methods.full",
    "Houlsby": "methods.houlsby",
    "IA3": "adapters.ia3",
    "ImageEncoder": "encoders.image",
    "ImageOnly": "methods.image_only",
    "LoRA": "adapters.lora",
    "MLPEncoder": "encoders.mlp",
    "MaskToken": "missing.token",
    "MultimodalClassifier": "estimators",
    "MultimodalRegressor": "estimators",
    "PlainIA3": "methods.ia3",
    "PlainLoRA": "methods.lora",
    "QuestionAnswerer": "answerer",
    "TIAdapter": "methods.ti_adapter",
    "TabularEncoder": "encoders.tabular",
    "TabularOnly": "methods.tabular_only",
    "TextEncoder": "encoders.text",
    "Training": "methods._base",
    "Trees": "methods.trees",
    "U2A": "methods.u2a",
    "UniAdapter": "methods.uniadapter",
    "Unified": "adapters.unified",
    "VectorEncoder": "encoders.vector",
    "VideoEncoder": "encoders.video",
    "Zero": "missing.zero",
    "from_pretrained": "estimators",
    "load": "estimators",
    "load_many": "many",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multiadapt' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"multiadapt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
