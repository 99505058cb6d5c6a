"""How programs reach the scheduler half: the admin API for people and tools, the agent API for executors."""
