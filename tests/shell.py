"""Commands as they are typed."""

from click.testing import CliRunner, Result

from multiadapt.cli import main

__all__ = ["call"]


def call(*words: object, code: int = 0) -> Result:
    """Runs a command; its exit code must be `code`, and anything but an exit is raised here."""
    done = CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done
