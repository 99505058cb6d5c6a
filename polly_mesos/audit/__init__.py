"""Compares what the ledger, the platforms, the master and the hosts say, and names each difference.

What was gathered is a :class:`~polly_mesos.audit.world.World`; comparing is pure and stands in ``platforms``,
``hosts``, ``masters`` and ``records``. :class:`~polly_mesos.audit.auditing.Audit` looks twice, so that things that
move are not taken for differences, :mod:`~polly_mesos.audit.repair` does what cannot lose data, and
:class:`~polly_mesos.audit.drift.DriftLoop` does the same all the time.
"""
