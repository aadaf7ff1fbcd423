"""Is the simulated population like the world, and what does it cost to make one?"""
