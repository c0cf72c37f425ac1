"""The errors that a user can correct."""


class UserError(Exception):
    """A mistake that the user can correct.

    The text is one sentence that says what is wrong and what to do. Commands print it without a
    traceback and exit with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """In a notebook: the sentence without a traceback."""
        return [f"{type(self).__name__}: {self}"]


class DiskError(UserError):
    """A disk is full or cannot be written. What was computed so far is sound."""
