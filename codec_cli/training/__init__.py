"""Training, export and their configuration: the only part of the project that imports TensorFlow.

Importing this package itself imports nothing heavy. The workflow as a Python API::

    from codec_cli.training.config import load_config
    from codec_cli.training.loop import train
    from codec_cli.training.export import export_run

    config = load_config("photo", ["data.path=my_photos"])
    train(config, run_dir)
    export_run(run_dir, model_dir)
"""


def require() -> None:
    """Imports what training needs.

    Raises:
        TrainingError: The ``train`` extra is missing; one line says how to install it.
    """
    import logging
    import os

    from codec_cli.errors import TrainingError

    # Errors come as exceptions; what TensorFlow logs beside them is no use to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import tensorflow  # noqa: F401
        import tensorflow_compression  # noqa: F401

        import pydantic  # isort: skip  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"this needs TensorFlow ({error}); with Python 3.10 or 3.11, in codec's source folder: "
            "pip install '.[train]'"
        ) from error
