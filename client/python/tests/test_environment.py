"""What executors are set up with."""

import contextlib
import os
import sys
import threading
import zipfile
from pathlib import Path

import manyhands as mh
import pytest
from conftest import LIMIT_S
from manyhands import _archive, _environment


def package(directory, name, text="def f():\n    return 'packed'\n"):
    made = directory / name
    made.mkdir(parents=True)
    (made / "__init__.py").write_text(text)
    (made / "data.txt").write_text("data")
    (made / "__pycache__").mkdir()
    (made / "__pycache__" / "x.pyc").write_bytes(b"not to be sent")
    return made


def test_settings_are_checked():
    for wrong in (
        {"variables": {"A": 1}},
        {"preload": "numpy"},
        {"py_modules": [3]},
        {"py_modules": "./mods"},
        {"requirements": "six"},
        {"requirements": [3]},
    ):
        with pytest.raises(TypeError):
            _environment.describe(**wrong)
    for wrong in (
        {"variables": {"A=B": "1"}},
        {"py_modules": ["/there/is/nothing"]},
        {"py_modules": ["no_such_module_at_all"]},
    ):
        with pytest.raises(ValueError):
            _environment.describe(**wrong)


def required(*lines, remote=False):
    return _environment.describe(requirements=list(lines), remote=remote)["requirements"]


def test_requirements_come_from_a_list_or_a_file(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# what it needs\nnumpy>=1  # arrays\n\npandas\n-r more/of.txt\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "of.txt").write_text("six \\\n  ; python_version > '3'\n--pre\n")
    found = ["numpy>=1", "pandas", "six    ; python_version > '3'", "--pre"]
    for given in (file, str(file), [f"-r {file}"], [f"--requirement={file}"]):
        assert _environment.describe(requirements=given, remote=True)["requirements"] == found
    assert required(
        "numpy", "a[b]>1 ; python_version>'3'", "x @ git+https://h/x@1", remote=True
    ) == [
        "numpy",
        "a[b]>1 ; python_version>'3'",
        "x @ git+https://h/x@1",
    ]


def test_what_is_required_of_this_machine_has_its_place_and_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = package(tmp_path, "proj")
    (tmp_path / "a b.whl").write_bytes(b"wheel")
    [line] = required("./proj")
    assert line.startswith(f"{made}  # content ")
    mark = line.rpartition(" ")[2]
    for written, told in (
        ("./proj[all] ; python_version > '3'", f"{made}[all] ; python_version > '3'"),
        ("file:proj", made.as_uri()),
        (f"p @ {made.as_uri()}", f"p @ {made.as_uri()}"),
    ):
        assert required(written) == [f"{told}  # content {mark}"]
    [wheel] = required("a b.whl")
    assert wheel.startswith(f"{tmp_path}/a b.whl  # content ")
    # What building it makes changes nothing, and what it is made of does.
    for name in ("build", "dist", "proj.egg-info", ".git"):
        package(made, name)
    (made / "env").mkdir()
    (made / "env" / "pyvenv.cfg").touch()
    assert required("./proj") == [line]
    (made / "data.txt").rename(made / "other.txt")
    assert required("./proj") != [line]


def test_requirements_that_cannot_be_met_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package(tmp_path, "proj")
    (tmp_path / "round.txt").write_text("-r round.txt\n")
    for line, words in (
        ("./nothing", "there is no"),
        ("no.whl", "there is no"),
        ("-r nothing.txt", "cannot be read"),
        ("-r", "in the same string"),
        ("-r round.txt", "includes itself"),
        ("-e ./proj", "without -e"),
        ("--editable=./proj", "without -e"),
        ("-c limits.txt", "constraints"),
        ("--find-links ./proj", "not absolute"),
    ):
        with pytest.raises(ValueError, match=words):
            required(line)
    with pytest.raises(ValueError, match="send modules by py_modules"):
        required("./proj", remote=True)


def test_a_directory_is_measured_before_it_is_installed(tmp_path):
    made = package(tmp_path, "proj")
    with (made / "data.txt").open("wb") as data:
        data.truncate(_archive.LIMIT + 1)
    with pytest.raises(ValueError, match="build a wheel"):
        required(str(made))


def test_the_path_is_what_other_interpreters_do_not_have():
    path = _environment.import_path()
    assert str(Path(__file__).parent) in path
    home = str(Path(mh.__file__).parents[1])
    assert (home in path) != home.endswith("site-packages"), "installed, it is there already"
    assert not any(entry.endswith("site-packages") for entry in path)
    assert os.path.dirname(os.__file__) not in path


def test_the_same_modules_make_the_same_archive(tmp_path):
    archives = []
    for copy in ("one", "two"):
        made = package(tmp_path / copy, "packed")
        os.utime(made / "data.txt", (copy == "one" and 1e9, 2e9))
        archives.append(_environment.describe(py_modules=[made], remote=True)["archive"])
    one, two = (Path(archive).read_bytes() for archive in archives)
    assert archives[0] != archives[1] and one == two
    with zipfile.ZipFile(archives[0]) as archive:
        assert archive.namelist() == ["packed/__init__.py", "packed/data.txt"]


def test_an_archive_is_measured_before_a_file_is_read(tmp_path, monkeypatch):
    made = package(tmp_path, "packed")
    with (made / "data.txt").open("wb") as data:
        data.truncate(_archive.LIMIT + 1)
    monkeypatch.setattr(_archive, "_add", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(ValueError, match="MiB of files"):
        _archive.pack([made])


def test_a_file_that_grows_meanwhile_leaves_nothing_behind(tmp_path, monkeypatch):
    made = package(tmp_path, "packed")
    (made / "data.txt").write_bytes(bytes(3 << 20))
    before = os.listdir(_archive._scratch())
    monkeypatch.setattr(_archive, "LIMIT", 2 << 20)
    monkeypatch.setattr(_archive, "sum", lambda _: 0, raising=False)
    with pytest.raises(ValueError, match="may be sent"):
        _archive.pack([made])
    assert os.listdir(_archive._scratch()) == before


def test_what_is_no_file_is_not_sent(tmp_path):
    made = package(tmp_path, "packed")
    os.mkfifo(made / "pipe")
    (made / "nowhere").symlink_to(tmp_path / "nothing")
    with zipfile.ZipFile(_archive.pack([made])) as archive:
        assert archive.namelist() == ["packed/__init__.py", "packed/data.txt"]


def test_archives_that_threads_make_at_one_time_are_their_own(tmp_path):
    packed = {}

    def pack(n):
        packed[n] = _archive.pack([made[n]])

    made = [package(tmp_path / str(n), f"packed_{n}") for n in range(8)]
    threads = [threading.Thread(target=pack, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(set(packed.values())) == 8
    for n, path in packed.items():
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist()[0] == f"packed_{n}/__init__.py"


def test_here_modules_are_on_the_path(tmp_path):
    made = package(tmp_path, "packed")
    found = _environment.describe(py_modules=[made])
    assert found["archive"] is None and str(tmp_path) in found["path"]


@pytest.fixture(params=["local", "remote"])
def begin(request, address):
    """Begins a client with settings, in both places."""

    def begin(**settings):
        if request.param == "local":
            return mh.Client("local", workers=1, **settings)
        return mh.Client(address, **settings)

    return begin


def test_variables_and_directory(begin, tmp_path):
    with begin(env={"MADE_FOR_TASKS": "yes"}, directory=tmp_path) as client:
        assert client.submit(os.getenv, "MADE_FOR_TASKS").result(LIMIT_S) == "yes"
        assert client.submit(os.getcwd).result(LIMIT_S) == str(tmp_path)
    assert "MADE_FOR_TASKS" not in os.environ


def test_preloaded_modules_are_there_before_the_first_task(begin):
    with begin(preload=["colorsys", "xml.dom.minidom"]) as client:
        there = client.submit(lambda: {"colorsys", "xml.dom.minidom"} <= set(sys.modules))
        assert there.result(LIMIT_S)


def test_a_preload_that_fails_says_why(begin):
    with begin(preload=["no_such_module_at_all"]) as client:
        error = client.submit(abs, -1).exception(LIMIT_S)
    assert isinstance(error, mh.ManyhandsError) and "no_such_module_at_all" in str(error)


def test_py_modules_can_be_imported(begin, tmp_path):
    made = package(tmp_path, "packed_for_tasks")

    def use():
        import packed_for_tasks

        return packed_for_tasks.f()

    with begin(py_modules=[made]) as client:
        assert client.submit(use).result(LIMIT_S) == "packed"


def test_clients_with_different_environments(begin):
    with begin(env={"WHO": "one"}) as one, begin(env={"WHO": "two"}) as two:
        assert one.submit(os.getenv, "WHO").result(LIMIT_S) == "one"
        assert two.submit(os.getenv, "WHO").result(LIMIT_S) == "two"


def test_what_is_sent_is_what_each_client_has(begin, tmp_path):
    large = os.urandom(2 << 20)

    def use():
        import importlib.resources

        import sent_for_tasks

        data = importlib.resources.files(sent_for_tasks) / "data.txt"
        return sent_for_tasks.f(), data.read_bytes() == large

    clients = {}
    with contextlib.ExitStack() as open_clients:
        for version in ("one", "two"):
            text = f"def f():\n    return {version!r}\n"
            made = package(tmp_path / version, "sent_for_tasks", text)
            (made / "data.txt").write_bytes(large if version == "one" else b"other")
            clients[version] = open_clients.enter_context(begin(py_modules=[made]))
        # Both are open: neither has the other's.
        assert clients["two"].submit(use).result(LIMIT_S) == ("two", False)
        assert clients["one"].submit(use).result(LIMIT_S) == ("one", True)
        assert clients["two"].submit(use).result(LIMIT_S) == ("two", False)


OTHER_PYTHON = """
import manyhands._codec, manyhands._run
manyhands._codec.PYTHON = manyhands._run.PYTHON = "3.99"
"""


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ("import cloudpickle; cloudpickle.__version__ = '0.9.8'", "cloudpickle 0.9.8"),
        (OTHER_PYTHON, "Python 3.99"),
    ],
)
def test_a_function_that_other_versions_have_pickled_is_refused(begin, tmp_path, change, version):
    """The executors are made to be of another version."""
    (tmp_path / "of_other_versions.py").write_text(change)
    others = begin(py_modules=[tmp_path / "of_other_versions.py"], preload=["of_other_versions"])
    with others as client:
        refused = [client.submit(lambda: "by value").exception(LIMIT_S)]
        with mh.Pool(client=client) as pool, pytest.raises(mh.TaskError) as in_a_pool:
            pool.map(lambda x: x, range(2))
        refused.append(in_a_pool.value)
        refused.append(client.submit(max, [1, 2], key=lambda x: -x).exception(LIMIT_S))
        # Both sides find this one by its name.
        assert client.submit(abs, -1).result(LIMIT_S) == 1
        with mh.Pool(client=client) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
    here = f"written by Python {sys.version_info.major}.{sys.version_info.minor}"
    for error in refused:
        assert here in str(error) and version in str(error)
        assert "install the same there" in str(error)
