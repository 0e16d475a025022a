"""Closed-loop evaluation: roll out, count honestly, report."""
