"""Stand-in for the distribution ``http-parser``: see :mod:`http_parser.http`."""

__version__ = "0.9.1"
