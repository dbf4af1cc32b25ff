"""Bring recordings from a public archive into a folder, politely, and so that a stopped run can be taken up again."""
