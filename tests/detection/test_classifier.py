"""What a classifier can be opened from."""

from pathlib import Path

import pytest

from birdclf.detection.classifier import open_classifier
from birdclf.errors import UserError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint": "last"}, "--checkpoint last is for a run folder"),
        ({"trusted": ["mine"]}, "--trust is for a run"),
    ],
)
def test_an_onnx_file_takes_no_option_of_a_run_folder(options, words):
    with pytest.raises(UserError, match=words):
        open_classifier(Path("birds.onnx"), **options)


def test_a_file_of_another_kind_is_no_run(tmp_path: Path):
    file = tmp_path / "best.ckpt"
    file.write_bytes(b"")
    with pytest.raises(UserError, match="neither a run folder nor an .onnx file"):
        open_classifier(file)


def test_a_pointer_of_git_lfs_is_called_that(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "birds.onnx"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"birds\.onnx is a Git LFS pointer, not the file itself.*git lfs pull"):
        open_classifier(file)
