"""Every error multiadapt raises on purpose.

MultiadaptError
├── SpecError          ValueError     an option of a spec, or a combination of options
├── SchemaError        ValueError     the table's columns, or the file it is in
├── CellError          ValueError     cells that cannot be read: row, column, file, all of them
├── TargetError        ValueError     the label column
├── EncoderError       ValueError     a pretrained network that cannot be opened or used
├── TrainingError      RuntimeError   a run that cannot go on, such as one that diverged
├── ArtifactError      ValueError     a saved model that is incomplete, altered or of another kind
└── ExtraError         ImportError    an optional package that is not installed
"""

__all__ = [
    "ArtifactError",
    "CellError",
    "EncoderError",
    "ExtraError",
    "MultiadaptError",
    "SchemaError",
    "SpecError",
    "TargetError",
    "TrainingError",
]


class MultiadaptError(Exception):
    """The root of all errors below."""


class SpecError(MultiadaptError, ValueError):
    """An option has a value, or a combination of options a meaning, that does not exist."""


class SchemaError(MultiadaptError, ValueError):
    """A column is absent, repeated or of a kind that cannot be used, or a table cannot be read."""


class CellError(MultiadaptError, ValueError):
    """Cells cannot be read. The text names row, column, file and remedy of the first ten."""


class TargetError(MultiadaptError, ValueError):
    """The labels cannot be learned from or scored against."""


class EncoderError(MultiadaptError, ValueError):
    """A pretrained network cannot be opened, is of an unknown family, or cannot do what is asked."""


class TrainingError(MultiadaptError, RuntimeError):
    """A run cannot go on. The text says at which batch, and which option to change."""


class ArtifactError(MultiadaptError, ValueError):
    """A saved model is incomplete, was altered, or does not reproduce its golden rows."""


class ExtraError(MultiadaptError, ImportError):
    """An optional package is needed; the text says which extra installs it."""
