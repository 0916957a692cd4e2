"""A Gaussian policy, and the parts of a policy gradient: returns, a value function, advantages, losses."""
