"""The fault campaign: a real Mesos, frameworks that use volumes all the time, and a seeded sequence of faults.

``python -m chaos --seed 1`` runs one. The way of reading: :mod:`.plan` (what is to go wrong), :mod:`.stage` (what it
goes wrong on), :mod:`.actions` (how), :mod:`.workload` (who suffers), :mod:`.judge` (what must hold), :mod:`.campaign`
(all together).
"""
