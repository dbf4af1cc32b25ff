"""Download of recordings from Xeno-canto by its API."""
