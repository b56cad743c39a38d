import pytest

from experiments.clips import CLIPS, write_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Writes a clip of the corpus by its name, once, and gives its path."""
    root = tmp_path_factory.mktemp("clips")

    def write(name):
        path = root / name
        if not path.exists():
            write_clip(path, CLIPS[name])
        return path

    return write
