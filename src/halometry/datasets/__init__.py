"""How images are kept and read: files, folders, the store, the cache, and splits."""
