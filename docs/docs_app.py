"""The command line, as the documentation imports it."""

from scalable.cli import app as make_app

app = make_app()
