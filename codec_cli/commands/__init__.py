"""The commands of ``codec``: one module each, with a click command named ``command``.

Importing one must stay cheap, because ``codec --help`` imports all: click and :mod:`codec_cli.options` only;
everything else inside the functions.
"""
