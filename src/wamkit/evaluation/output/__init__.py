"""Output of evaluations: HTML pages, plots, films, Rerun exports and tables of episodes."""
