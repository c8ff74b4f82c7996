"""The console script ``codec``, and ``python -m codec_cli``: nothing is imported before Ctrl-C is heard."""

__all__ = ["main"]


def main() -> None:
    """Runs the command line, and exits: with 130, and without a word, if Ctrl-C comes during imports.

    (What comes while the interpreter itself starts, nothing of ours can catch.)

    Raises:
        SystemExit: Always.
    """
    try:
        import signal
        import sys

        try:
            from codec_cli.main import main as run

            run()
        finally:
            # What is left to do is the interpreter's; it would show a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        import sys

        sys.exit(130)


if __name__ == "__main__":
    main()
