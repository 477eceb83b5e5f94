"""Appends events as lines of JSON to a file in a folder, rotated by size and age, compressed on request.

``settings`` has the sink's settings, ``sink`` the class that the engine calls, ``appending`` the file being written,
``rotating`` the steps of a full file, ``compressing`` its compressed copy, ``names`` the names of the files.
"""

from hermes import SinkPlugin
from hermes_sinks.file.settings import FileSettings
from hermes_sinks.file.sink import FileSink, check_file, open_file

__all__ = ["FileSettings", "FileSink", "check_file", "open_file", "plugin"]

plugin = SinkPlugin(open_file, FileSettings, summary="lines of JSON in a rotated file", check=check_file)
