"""The one error a user is meant to see."""


class UserError(Exception):
    """A mistake that the user can mend: its text is one sentence that says what to do. Exit code 2, no traceback."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook: the sentence alone."""
        return [f"{type(self).__name__}: {self}"]
