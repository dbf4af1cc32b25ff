"""Texts on the command line mean themselves, whatever Hydra's grammar makes of them."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from birdclf.errors import UserError
from birdclf.overrides import text_words

TEXTS = (
    *(
        "2024",
        "1e3",
        "1_000",
        "nan",
        "TRUE",
        "günter",
        "观鸟",
        "a=b",
        "a(1)",
        "[x]",
        "it's",
        "null",
        "a b",
        "{x}",
        "x[1]",
    ),
    *("~/x", "a#b", "a&b", "!x", '"', 'say "x"', "x\\", "/data/été/2024", "$HOME", "0x10", "#1", "%", "(x)", "|", "`"),
)
FOLDER = ["data=folder", "data.root=x"]


def value_of(word: str):
    value = OverridesParser.create().parse_override(word).value()
    return getattr(value, "text", value)


def last(*words: str, options=(), before=FOLDER):
    return text_words("train", list(options), [*before, *words])[-1]


@pytest.mark.parametrize("text", TEXTS)
def test_a_folder_of_any_name_is_taken(text):
    word = last(f"data.root={text}", before=FOLDER[:1])
    assert str(value_of(word)) == text


@pytest.mark.parametrize("key", ["store.dir", "init_from", "monitor", "hydra.run.dir", "data.label", "name"])
def test_other_texts_are_too(key):
    assert value_of(last(f"{key}=günter")) == "günter"
    assert str(value_of(last(f"{key}=1e3"))) == "1e3"


def test_codes_of_species_stay_texts_in_a_list():
    assert last("data.species=[1e3,TRUE,blackbird]") == 'data.species=["1e3","TRUE",blackbird]'
    assert last("data.species=[a,b]") == "data.species=[a,b]"


@pytest.mark.parametrize(
    "word",
    [
        *("seed=1", "trainer.max_epochs=1e1", "optimizer.lr=1e-4", "resume=true", "data.species=null"),
        *("data.min_quality=3", "optimizer.betas=[0.9,0.99]", "'name=\"x\"'", "~data.root", "+new.key=ü", "seed=ü"),
        *("augment=[specaugment,mixup]", "loss={gamma: 1}", "model.pretrained=true", "data.root='x'", "no_such=1e3"),
        *(
            "optimizer.lr=tag(log, interval(1e-4, 1e-2))",
            "seed=range(1,4)",
            "loss.alpha=0.5",
            "data.root=${oc.env:HOME}",
        ),
    ],
)
def test_what_is_no_text_stays(word):
    assert last(word) == word


def test_a_key_without_a_value_is_refused():
    with pytest.raises(UserError, match=r"loss\.gamma has no value: write loss\.gamma=VALUE"):
        last("loss.gamma")


def test_commas_are_a_sweeps():
    many = ["-m"]
    assert last("data.root=2024,günter,x", options=many) == 'data.root="2024","günter",x'
    assert last("data.root=1e3,2e3", options=many) == 'data.root="1e3","2e3"'
    assert last("seed=1,2", options=many) == "seed=1,2"
    assert last("loss=focal,ldam", options=many) == "loss=focal,ldam"
    with pytest.raises(UserError, match="'data.root=\"a,b\"'.*-m"):
        last("data.root=a,b")


def test_null_of_a_group():
    assert last("averaging=null") == "averaging=none"
    assert last("averaging=ema,null", options=["-m"]) == "averaging=ema,none"
    assert text_words("train", [], ["experiment=null", "sweep=null", "posthoc=null"]) == ["posthoc=none"]
    assert last("loss=null") == 'loss="null"' and last("loss=0") == 'loss="0"' and last("loss=true") == 'loss="true"'


@pytest.mark.parametrize("options", [["-m", "--cfg", "job"], ["--multirun", "-c", "hydra"], ["--info", "-m"]])
def test_one_job_is_shown(options):
    with pytest.raises(UserError, match="one job: leave out -m"):
        text_words("train", options, ["seed=1"])
