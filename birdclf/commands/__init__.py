"""One module per command: its arguments and the call that runs it."""
