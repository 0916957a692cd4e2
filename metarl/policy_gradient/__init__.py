"""A Gaussian policy, and what a policy gradient is computed from: returns, a linear baseline, advantages, losses."""
