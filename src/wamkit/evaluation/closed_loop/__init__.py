"""Closed-loop evaluation: episodes are planned, rolled out in simulators, journalled and assembled."""
