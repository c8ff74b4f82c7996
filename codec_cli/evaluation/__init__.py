"""Measuring: quality metrics, Bjøntegaard deltas and other codecs to compare with.

Importing this package itself imports nothing heavy:

* :mod:`codec_cli.evaluation.metrics`, :mod:`codec_cli.evaluation.lpips` and
  :mod:`codec_cli.evaluation.quality` (the catalogue of both) need numpy alone;
* :mod:`codec_cli.evaluation.bdrate` loads scipy (extra ``eval``) on the first call that interpolates;
* :mod:`codec_cli.evaluation.others` drives JPEG, WebP, AVIF and JPEG 2000 through Pillow, JPEG XL and HEIC
  through its plugins (extra ``eval``), and BPG through its programs.
"""
