"""Data sets of the field, read from a downloaded copy; nothing is downloaded.

A file is a data set and has one function of its name, from a folder to a `DataSet`.
"""

from multiadapt.datasets._base import CountWarning, DataSet
from multiadapt.datasets.ave import ave
from multiadapt.datasets.crema_d import crema_d
from multiadapt.datasets.didemo import didemo
from multiadapt.datasets.karpathy import karpathy
from multiadapt.datasets.kinetics_sounds import kinetics_sounds
from multiadapt.datasets.missing_aware_prompts import missing_aware_prompts, with_holes
from multiadapt.datasets.mm_imdb import mm_imdb
from multiadapt.datasets.msr_vtt import msr_vtt
from multiadapt.datasets.msrvtt_qa import msrvtt_qa
from multiadapt.datasets.upmc_food101 import upmc_food101
from multiadapt.datasets.vqa_v2 import vqa_v2

__all__ = [
    "CountWarning",
    "DataSet",
    "ave",
    "crema_d",
    "didemo",
    "karpathy",
    "kinetics_sounds",
    "missing_aware_prompts",
    "mm_imdb",
    "msr_vtt",
    "msrvtt_qa",
    "upmc_food101",
    "vqa_v2",
    "with_holes",
]
