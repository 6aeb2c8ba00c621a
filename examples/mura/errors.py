"""The one error that a command shows its user: a line that names the file and the fix."""


class UserError(Exception):
    """Something the user can mend; the message is one line: what came, what was wanted, the fix."""
