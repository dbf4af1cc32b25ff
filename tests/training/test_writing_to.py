"""What stops a run from writing is a sentence; what it cannot read is not blamed on its folder."""

import pytest

from birdclf.errors import UserError
from birdclf.training.train import writing_to


@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_or_a_lost_folder_says_how_to_go_on(tmp_path, named):
    where = (str(tmp_path / "history.json"),) if named else ()
    with pytest.raises(UserError, match=r"No space left.*hydra\.run\.dir=.* resume=true"), writing_to(tmp_path):
        raise OSError(28, "No space left on device", *where)


def test_a_file_elsewhere_is_another_matter(tmp_path):
    with pytest.raises(FileNotFoundError), writing_to(tmp_path / "run"):
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "song.wav"))
