"""The sink that appends lines of JSON to a file in a folder, rotated by size and age, compressed on request.

``settings`` declare it, ``sink`` is what the engine calls, ``appending`` is the file being written, ``rotating`` what
becomes of a file that is full, ``compressing`` the compressed copy of one, ``names`` how they are all called.
"""

from hermes import SinkPlugin
from hermes_sinks.file.settings import FileSettings
from hermes_sinks.file.sink import FileSink, check_file, open_file

__all__ = ["FileSettings", "FileSink", "check_file", "open_file", "plugin"]

plugin = SinkPlugin(open_file, FileSettings, summary="lines of JSON in a rotated file", check=check_file)
