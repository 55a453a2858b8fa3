"""Documents in the columns of a table: parquet, Arrow and feather files.

Arrow has two formats: with an index at the end (also called feather), and a stream, as `datasets` saves it.
Both end in .arrow. Only columns of strings are read, so extension types in other columns are never looked at.
"""

from ..errors import MinglmError, listed, need, reason

ROWS = 256  # converted to Python strings at a time


def columns_of(text_key, names):
    """The columns that a setting names.  Example: "title,body" -> ["title", "body"]."""
    return [text_key] if text_key in names else [name.strip() for name in text_key.split(",")]


def joined(values):
    """The document of some columns: what is not null or empty, joined by line ends."""
    return "\n".join(value for value in values if value)


def table_rows(path, text_key="text", on_read=None):
    """Yield the document of each row of a table; memory holds one row group or record batch.

    on_read(n) is called when n more bytes were read. Raises MinglmError for a broken file, and for a column
    that is missing or does not hold strings.
    """
    need("pyarrow", path)
    import pyarrow

    try:
        with _Counted(path, on_read or (lambda n: None)) as file:
            for batch in _batches(path, file, text_key):
                columns = [column.to_pylist() for column in batch]
                yield from map(joined, zip(*columns, strict=True))
            file.finish()
    except (pyarrow.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise MinglmError(f"{path}: broken or cut short, so it cannot be read: {reason(error)}") from error
    except OSError as error:  # pyarrow raises it for damage, too
        raise MinglmError(f"{path}: cannot be read: {reason(error)}") from error


def _batches(path, file, text_key):
    """Yield lists of columns, ROWS rows at a time."""
    import pyarrow

    if str(path).lower().endswith(".parquet"):
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(file)
        names = _checked(path, table.schema_arrow, text_key)
        batches = table.iter_batches(batch_size=ROWS, columns=names)
    else:
        head = file.read(6)
        file.seek(0)
        if head == b"ARROW1":
            table = pyarrow.ipc.open_file(file)
            batches = (table.get_batch(i) for i in range(table.num_record_batches))
        else:
            batches = table = pyarrow.ipc.open_stream(file)
        names = _checked(path, table.schema, text_key)
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            yield [batch.column(name).slice(start, ROWS) for name in names]


def _checked(path, schema, text_key):
    """The columns of text_key, which exist once and hold strings."""
    import pyarrow.types as types

    names = columns_of(text_key, schema.names)
    for name in names:
        if name not in schema.names:
            there = listed([repr(other) for other in schema.names]) or "none"
            raise MinglmError(
                f"{path}: no column {name!r}; the columns there are: {there}; --text-key names one"
            )
        if schema.names.count(name) > 1:
            raise MinglmError(
                f"{path}: {schema.names.count(name)} columns are called {name!r}; one is accepted"
            )
        kind = schema.field(name).type
        plain = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain)):
            raise MinglmError(f"{path}: column {name!r} holds {str(kind)[:80]}; strings are accepted")
    return names


class _Counted:
    """A file that reports how far it was read; columns that are not needed are reported at the end."""

    def __init__(self, path, on_read):
        self._file, self._on_read, self._left = open(path, "rb"), on_read, 0
        self._left = self._file.seek(0, 2)
        self._file.seek(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, n=-1):
        data = self._file.read(n)
        step = min(len(data), self._left)
        self._left -= step
        self._on_read(step)
        return data

    def finish(self):
        self._on_read(self._left)
