"""Run folders: read, opened, evaluated and combined; nothing in their files is executed."""
