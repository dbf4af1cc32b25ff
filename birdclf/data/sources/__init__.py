"""Sources of recordings, a file each: collections, tables and annotations as users have them, and the aviary."""
