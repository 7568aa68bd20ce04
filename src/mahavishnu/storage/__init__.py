"""SQLite files in the state folder: one writer thread per file, with group commit."""
