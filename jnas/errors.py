"""What jnas raises for a user's mistake."""


class InputError(ValueError):
    """A user's mistake: one line that names the value given and what is allowed."""
