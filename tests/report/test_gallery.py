import numpy as np
import pytest
import soundfile
from made_up_runs import species_names, write_run

from birdclf.report.sections.gallery import EACH, HIT, MISTAKE, gallery, gallery_section, picks
from birdclf.runs.run import Run

PLENTY = 20_000_000


@pytest.fixture
def run(tmp_path):
    """A run whose recordings are files: each species has a tone of its own."""
    node = {"_target_": "birdclf.data.sources.manifest.manifest_catalog", "path": str(tmp_path / "all.csv")}
    folder = write_run(tmp_path / "run", clips=60, data=node)
    made = Run(folder)
    lines = ["recording_id,species,path"]
    (tmp_path / "wav").mkdir()
    for name, k in zip(made.test.recording_id, made.test.target, strict=True):
        wave = 0.3 * np.sin(2 * np.pi * (500 + 300 * k) * np.arange(12_000) / 8_000)
        soundfile.write(tmp_path / "wav" / f"{name}.wav", wave, 8_000)
        lines.append(f"{name},{species_names(8)[k]},{tmp_path / 'wav' / name}.wav")
    (tmp_path / "all.csv").write_text("\n".join(lines))
    return made


def test_mistakes_come_most_confident_first_and_hits_most_hesitant_first(run):
    cards = gallery(run, PLENTY)
    mistakes, hits = ([card for card in cards if card.kind == kind] for kind in (MISTAKE, HIT))
    assert len(mistakes) == len(hits) == EACH
    assert all(card.truth != card.predicted and card.p_truth < card.p_predicted for card in mistakes)
    assert all(card.truth == card.predicted and card.p_truth == card.p_predicted for card in hits)
    assert [c.p_predicted for c in mistakes] == sorted((c.p_predicted for c in mistakes), reverse=True)
    assert [c.p_predicted for c in hits] == sorted(c.p_predicted for c in hits)
    p = np.exp(run.test.logits)
    wrong = run.test.prediction != run.test.target
    assert mistakes[0].p_predicted == pytest.approx(p.max(axis=1)[wrong].max(), rel=1e-4)


def test_cards_have_sound_and_picture(run):
    cards = gallery(run, PLENTY)
    assert all(card.audio and card.spectrogram and card.mime == "audio/wav" and not card.note for card in cards)


def test_a_recording_that_cannot_be_read_is_a_card_with_a_sentence(run, tmp_path):
    bad = str(run.test.recording_id[picks(run)[0][0]])
    (tmp_path / "wav" / f"{bad}.wav").write_text("not sound")
    first, *others = gallery(run, PLENTY)
    assert first.recording_id == bad and first.audio is None and first.spectrogram is None
    assert first.note.startswith("The recording ") and first.p_predicted > 0
    assert all(card.audio for card in others)


def test_a_recording_that_the_source_lost_is_a_card_with_a_sentence(run, tmp_path):
    lost = str(run.test.recording_id[picks(run)[0][0]])
    manifest = tmp_path / "all.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if not line.startswith(f"{lost},")))
    first, *others = gallery(run, PLENTY)
    assert "no longer holds" in first.note and all(card.audio for card in others)


def test_a_recording_that_has_moved_is_a_card_with_a_sentence_and_the_others_play(run, tmp_path):
    gone = str(run.test.recording_id[picks(run)[0][0]])
    (tmp_path / "wav" / f"{gone}.wav").rename(tmp_path / "elsewhere.wav")
    first, *others = gallery(run, PLENTY)
    assert first.recording_id == gone and first.audio is None and first.spectrogram is None
    assert first.note == "The recording cannot be decoded (no such file); it may have moved since."
    assert all(card.audio and not card.note for card in others)


def test_all_recordings_can_have_moved(run, tmp_path):
    (tmp_path / "wav").rename(tmp_path / "elsewhere")
    cards = gallery(run, PLENTY)
    assert all("cannot be found" in card.note and "60 of 60 rows" in card.note for card in cards)


def test_the_whole_source_can_be_gone(run, tmp_path):
    (tmp_path / "all.csv").unlink()
    cards = gallery(run, PLENTY)
    assert len(cards) == 2 * EACH and all("cannot be found" in card.note and not card.audio for card in cards)


def test_the_limit_of_bytes_holds(run):
    cards = gallery(run, 200_000)
    assert sum(len(card.audio or b"") + len(card.spectrogram or b"") for card in cards) <= 200_000
    assert cards[0].audio and not cards[-1].audio and "small" in cards[-1].note


def test_only_the_packages_own_sources_are_called(tmp_path):
    canary = tmp_path / "canary"
    for node in (
        {"_target_": "pathlib.Path.touch", "self": str(canary)},
        {
            "_target_": "birdclf.data.sources.folder.folder_catalog",
            "root": {"_target_": "os.mkdir", "path": str(canary)},
        },
    ):
        run = Run(write_run(tmp_path / f"run{len(str(node))}", data=node))
        assert "not one of birdclf's own" in gallery(run, PLENTY)[0].note
    assert not canary.exists()


def test_a_run_without_mistakes_has_no_row_of_them(tmp_path):
    run = Run(write_run(tmp_path / "run", skill=1.1))
    titles = [block.title for block in gallery_section("best", run, PLENTY).blocks[1:]]
    assert titles == ["Hesitant hits"]
