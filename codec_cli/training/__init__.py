"""Training, export and their configuration: the only part of the project that imports TensorFlow.

Importing this package itself imports nothing heavy. The workflow as a Python API::

    from codec_cli.training.config import load_config
    from codec_cli.training.loop import train
    from codec_cli.training.export import export_run

    config = load_config("photo", ["data.path=my_photos"])
    train(config, run_dir)
    export_run(run_dir, model_dir)
"""
