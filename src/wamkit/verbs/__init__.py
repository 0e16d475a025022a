"""Verbs: what the command line does, one file each with its config."""
