"""What was measured: episodes, scores, statistics, and the documents they are stored in."""
