"""Polly on Mesos: storage as offers."""

__version__ = "0.1.0"
