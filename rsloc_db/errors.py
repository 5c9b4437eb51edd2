"""Errors that a user can act on. Each message says what was expected, what was found and what to do next."""


class RslocError(Exception):
    """Base of all errors raised on purpose; the command line prints its message as one line.

    ``exit_code`` is what the command line exits with: 2 where the user's words or files are at fault, else 1.
    """

    exit_code = 2


class ServerError(RslocError):
    """The database server cannot be found, installed, started or reached."""

    exit_code = 1


class SchemaError(RslocError):
    """The database lacks the schema, or has another version of it."""

    exit_code = 1


class GalleryError(RslocError):
    """A gallery source cannot be read, or a gallery does not exist or is in use."""


class ImageError(RslocError):
    """An image cannot be decoded or has no pixels to work on."""


class QueryError(RslocError):
    """A query set, a query's scale or an option of it is missing or contradictory."""


class MatchError(RslocError):
    """Two images cannot be compared, or the bounds within which to search are none."""


class AreaError(RslocError):
    """An area is none, or is not on Earth."""


class ModelError(RslocError):
    """A model is unknown, or returned something that is no embedding."""


class RunError(RslocError):
    """A run does not exist or cannot be continued."""


class ExportError(RslocError):
    """A file to write has an unknown format, needs a package that is missing, or cannot be written."""


class WorkerError(RslocError):
    """A worker process died."""

    exit_code = 1
