"""A report of an evaluation as a folder of static files: figures, curves, pictures side by side.

::

    from codec_cli.evaluation import page, runner

    page.check_folder(folder, force)  # before hours of work
    comparer = page.Comparer((ours, *rivals), settings=(20, 50, 80))
    page.write_report(
        folder,
        runner.report(points, rates, skipped),
        (comparison for path in paths if isinstance(comparison := comparer(path), page.Packed)),
        published=None,
        title="24 photographs",
        force=False,
    )

``index.html`` holds all text, style and script and needs no network and no server: it opens from the file
system. The pictures beside it are lossless.
"""

from codec_cli.evaluation.page.build import write_report
from codec_cli.evaluation.page.compare import Comparer, Failure, Rival, compare_image
from codec_cli.evaluation.page.folder import check_folder
from codec_cli.evaluation.page.pictures import Comparison, Packed, Shown, pack

__all__ = [
    "Comparer",
    "Comparison",
    "Failure",
    "Packed",
    "Rival",
    "Shown",
    "check_folder",
    "compare_image",
    "pack",
    "write_report",
]
