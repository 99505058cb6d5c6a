"""The ``polly`` command."""
