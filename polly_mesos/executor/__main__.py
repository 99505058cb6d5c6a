"""Where the executor's artifact begins; kept in syntax that older Pythons read, so that they can say what is wrong."""

import sys


def main():  # type: () -> None
    """Run the executor that a Mesos agent has started, and exit with its status."""
    if sys.version_info < (3, 11):  # noqa: UP036 -- the artifact meets whatever Python the agent has
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(
            f"polly executor: needs Python 3.11 or later, but {sys.executable} is {found}; install a newer python3 on "
            "this agent"
        )
    import os

    from polly_mesos.executor.run import run_under_mesos

    sys.exit(run_under_mesos(dict(os.environ)))


if __name__ == "__main__":
    main()
