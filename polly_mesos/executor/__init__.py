"""The executor half: on each agent, it answers Mesos for Polly's disks and maps volumes to the host."""
