"""Where recordings come from: one table, whatever the source."""
