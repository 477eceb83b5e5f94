"""The version of Hermes, in a file that imports nothing, so that every other file may import this one."""

__version__ = "0.1.0"
