"""Sources of recordings, one per file: collections, tables, annotations, and the procedural aviary."""
