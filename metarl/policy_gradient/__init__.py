"""A Gaussian policy, and the parts of a policy gradient: returns, a linear baseline, advantages, losses."""
