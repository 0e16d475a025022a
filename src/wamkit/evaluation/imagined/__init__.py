"""A world model as evaluator: scores of imagined rollouts, and how far to trust them."""
