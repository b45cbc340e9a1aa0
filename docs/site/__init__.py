"""Builds the site from the documents and the source: ``python -m docs.site``. Nothing that it makes is committed.

``repository`` finds the pages, ``sources`` and ``prose`` cut a source file into text and code, and ``check`` looks at
every link of the result. The others extend Sphinx: ``pages`` (links to source and the pages of code), ``commands``,
``names`` (the API) and ``formulas``. ``conf`` is Sphinx' configuration.
"""
