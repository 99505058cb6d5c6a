"""Stand-ins for the programs that a Mesos agent starts from its launcher directory."""
