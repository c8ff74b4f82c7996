"""Studies: comparisons of small autoencoders that train, measure and write a folder of results.

``codec study`` runs them. They add nothing to training: every model is a configuration that ``codec train``
takes too, is trained by :mod:`codec_cli.training.loop`, and lies in the results as a run that reloads.

* :mod:`codec_cli.study.decoders` compares decoders behind one encoder;
* :mod:`codec_cli.study.latents` sets the size of the latent against error, and against bits;
* :mod:`codec_cli.study.runs`, :mod:`~codec_cli.study.measure`, :mod:`~codec_cli.study.pictures` and
  :mod:`~codec_cli.study.folder` are what studies share.

Importing this package itself imports nothing heavy.
"""


def require() -> None:
    """Imports what studies need: the extras ``train`` and ``eval``.

    Raises:
        TrainingError: Something is missing; one line says how to install it.
    """
    from codec_cli import training
    from codec_cli.errors import TrainingError

    training.require()
    try:
        import matplotlib  # noqa: F401
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"studies need the extra `eval` ({error}); in codec's source folder: pip install '.[train,eval]'"
        ) from error
