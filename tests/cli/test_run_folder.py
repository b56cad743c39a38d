import pytest

from lit_vdistill.cli.run_folder import RunFolderError, claim, claims


@pytest.fixture(autouse=True)
def _free_again():
    with claims():
        yield


@pytest.fixture
def used(tmp_path):
    """The folder of an earlier run, with a file that is the user's own."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "notes.txt", "checkpoints/last.ckpt"):
        (folder / name).write_text("x")
    return folder


def test_a_new_folder_is_made(tmp_path):
    claim(tmp_path / "a" / "b", None, overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["notes.txt", "config.yaml"])
def test_a_folder_without_what_took_time_to_make_is_free(tmp_path, name):
    (tmp_path / name).write_text("x")
    claim(tmp_path, None, overwrite=False)
    assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize("name", ["summary.json", "student"])
def test_what_a_finished_run_leaves_is_kept(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "x").write_text("x")
    with pytest.raises(RunFolderError, match=r"holds a run: name another folder"):
        claim(tmp_path, None, overwrite=False)


@pytest.mark.parametrize("ckpt_path", [None, "elsewhere/last.ckpt"])
def test_a_used_folder_is_refused(used, ckpt_path):
    with pytest.raises(RunFolderError, match=r"holds a run: go on .*last\.ckpt.*--overwrite"):
        claim(used, ckpt_path, overwrite=False)
    assert (used / "checkpoints" / "last.ckpt").exists()


def test_a_run_goes_on_in_its_own_folder(used):
    last = used / "checkpoints" / "last.ckpt"
    claim(used, str(last), overwrite=False)
    assert last.exists()


def test_overwriting_removes_what_the_old_run_made_and_nothing_of_the_user(used):
    """A new run that is killed must not be taken for one that has finished."""
    (used / "student").mkdir()
    (used / "summary.json").write_text("{}")
    (used / "test.json").write_text("{}")
    claim(used, None, overwrite=True)
    assert not any(
        (used / name).exists() for name in ("checkpoints", "student", "summary.json", "test.json")
    )
    assert (used / "notes.txt").exists()


@pytest.mark.parametrize("overwrite", [True, False])
def test_two_runs_in_one_folder_are_refused(used, overwrite):
    with claims():
        claim(used, None, overwrite=True)
        with pytest.raises(RunFolderError, match="another run is writing into it"):
            claim(used, None, overwrite=overwrite)
    claim(used, None, overwrite=True)
