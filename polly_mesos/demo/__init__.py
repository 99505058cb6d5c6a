"""``polly demo``: a task finds its data again, on a real Mesos on this machine, shown step by step.

:mod:`.run` tells the story, :mod:`.steps` says what each step is and how it is recognised, :mod:`.environment` prepares
the machine and cleans up after it, :mod:`.supervise` keeps the processes alive, :mod:`.observe` asks Polly and Mesos
what is so, and :mod:`.report` prints what came of it. The framework is ``examples/stateful_framework.py``.
"""
