"""Files as the cluster's Hadoop sees them: local, S3, whatever it has a file system for. For the driver only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession


class Files:
    """Lists, moves, removes, writes; by URL."""

    def __init__(self, session: SparkSession) -> None:
        self._jvm: Any = session.sparkContext._jvm
        self._settings: Any = session.sparkContext._jsc.hadoopConfiguration()

    def _at(self, url: str) -> tuple[Any, Any]:
        path = self._jvm.org.apache.hadoop.fs.Path(url)
        return path.getFileSystem(self._settings), path

    def read(self, url: str) -> str:
        """A small file's text."""
        system, path = self._at(url)
        stream = system.open(path)
        try:
            text: str = self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")
            return text
        finally:
            stream.close()

    def write(self, url: str, text: str) -> None:
        """Write a small file; it is there whole or not at all."""
        system, path = self._at(url + ".new")
        stream = system.create(path, True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()
        self.remove(url)
        self.move(url + ".new", url)

    def below(self, url: str) -> Iterator[tuple[str, int]]:
        """URL and bytes of each file in a folder, at any depth; none where there is no folder."""
        system, path = self._at(url)
        if not system.exists(path):
            return
        found = system.listFiles(path, True)
        while found.hasNext():
            status = found.next()
            yield str(status.getPath().toString()), int(status.getLen())

    def move(self, source: str, target: str) -> None:
        """Give a file another name; its folder is made if it isn't there.

        Raises:
            OSError: the file system refuses.
        """
        system, path = self._at(source)
        _, wanted = self._at(target)
        system.mkdirs(wanted.getParent())
        if not system.rename(path, wanted):
            raise OSError(
                f"expected to move {source} to {target}, found that the file system refuses; is something there?"
            )

    def remove(self, url: str) -> None:
        """Remove a file or folder, if it is there."""
        system, path = self._at(url)
        system.delete(path, True)
