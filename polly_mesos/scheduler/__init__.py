"""The scheduler half: framework, capacity planner, volume controller, and the answers to the agents."""
