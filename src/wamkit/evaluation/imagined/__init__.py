"""World models as evaluators: scores of imagined rollouts, and evidence of how reliable the scores are."""
