"""Requirements: what a worker installs for the tasks of a client."""

import importlib.util
import zipfile

import manyhands as mh
import pytest
from conftest import LIMIT_S, cluster

INSTALL_LIMIT_S = 4 * LIMIT_S
"""How long an installation may take: it makes a virtual environment."""


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    """A directory is where pip looks for packages; workers that are started now know that."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where a local cluster installs what is required."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "manyhands" / "python"


@pytest.fixture
def wheel(index):
    """A package that can be installed: one module that says where it lies."""
    info = "required_by_tasks-1.0.dist-info"
    files = {
        "required_by_tasks.py": "def where():\n    return __file__\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: required-by-tasks\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    path = index / "required_by_tasks-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


def environments(cache):
    """The environments that are there, whole or not."""
    return [place for place in cache.iterdir() if place.is_dir()]


def where():
    import required_by_tasks

    return required_by_tasks.where()


def test_a_requirement_is_installed_once_and_for_tasks_alone(cache, wheel):
    with mh.Client("local", workers=1, requirements=[wheel]) as client:
        first = client.submit(where).result(INSTALL_LIMIT_S)
    assert importlib.util.find_spec("required_by_tasks") is None
    [environment] = environments(cache)
    assert first.startswith(f"{environment}/") and (environment / "done").exists()
    made = (environment / "done").stat().st_mtime_ns
    with mh.Client("local", workers=1, requirements=[wheel]) as client:
        assert client.submit(where).result(LIMIT_S) == first
    assert environments(cache) == [environment]
    assert (environment / "done").stat().st_mtime_ns == made, "it was made again"


@pytest.mark.usefixtures("wheel")
def test_workers_elsewhere_install_from_their_index(tmp_path):
    with (
        cluster(tmp_path) as address,
        mh.Client(address, requirements=["required-by-tasks>=1,<2"]) as client,
    ):
        found = client.submit(where).result(INSTALL_LIMIT_S)
    [environment] = environments(tmp_path / "manyhands" / "python")
    assert found.startswith(f"{environment}/")


def test_a_requirement_that_is_nowhere_fails_the_task_and_leaves_nothing(cache):
    with mh.Client("local", workers=1, requirements=["no-such-package==1"]) as client:
        error = client.submit(abs, -1).exception(INSTALL_LIMIT_S)
    assert isinstance(error, mh.ManyhandsError)
    text = str(error)
    assert "the requirements no-such-package==1 cannot be installed" in text
    assert "No matching distribution found" in text, "pip's own words are missing"
    assert environments(cache) == []


BACKEND = """
import pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "local_project-1.0.dist-info"
    files = {
        "local_project.py": pathlib.Path("local_project.py").read_text(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: local-project\\nVersion: 1.0\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{name},,\\n" for name in [*files, record])
    name = "local_project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
"""


def project(directory, answer):
    """A project that pip can install without an index."""
    directory.mkdir()
    (directory / "backend.py").write_text(BACKEND)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (directory / "local_project.py").write_text(f"ANSWER = {answer}\n")
    return directory


def answer():
    import local_project

    return local_project.ANSWER


def answered():
    with mh.Client("local", workers=1, requirements=["."]) as client:
        return client.submit(answer).result(INSTALL_LIMIT_S)


def test_a_directory_is_installed_by_its_place_and_content(cache, tmp_path, monkeypatch):
    one, two = project(tmp_path / "one", 1), project(tmp_path / "two", 2)
    monkeypatch.chdir(one)
    assert answered() == 1
    monkeypatch.chdir(two)
    assert answered() == 2, "another project's environment was used"
    (two / "local_project.py").write_text("ANSWER = 3\n")
    assert answered() == 3, "the code from before the edit ran"
    assert len(environments(cache)) == 3
