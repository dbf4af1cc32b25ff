"""The commands, a file each: its arguments, then one call into a room."""
