"""Results of evaluations: episodes, scores, statistics, and the documents they are stored in."""
