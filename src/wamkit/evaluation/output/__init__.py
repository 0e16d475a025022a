"""Pages, films and tables for people and other tools."""
