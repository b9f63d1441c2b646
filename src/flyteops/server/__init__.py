"""The server process: its settings checked, its sockets opened, its work started and stopped.

It starts without the command line: `flyteops.server.run`.
"""
