"""Commands of ``cellseg-cli``, one module a subject: they parse, call and print; no logic.

Results go to stdout or to files, progress and logs to stderr. Everything but typer is imported by
the command that needs it, so that ``--help`` is quick.
"""
