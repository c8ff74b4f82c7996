"""``python -m codec_cli`` is the same as ``codec``."""

from codec_cli.main import main

if __name__ == "__main__":
    main()
