"""What the server answers, to whom, and under which headers."""

import base64
import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from serving.servers import CLASSES, Served, sound

from birdclf.serving.guard import Hosts, is_loopback


def test_a_recording_from_beginning_to_end(served: Served):
    told = served.heard(sound((2, 3), (0.9, 0.1)), "my song.wav")
    assert [(row["start_s"], row["end_s"], row["predicted"]) for row in told["rows"]] == [
        (0.0, 2.0, "Apus apus"),
        (2.0, 5.0, "Pica pica"),
    ]
    assert all(row["verdict"] == "" and 0.8 < row["confidence"] < 0.9 for row in told["rows"])
    assert told["duration_s"] == 5 and told["high_hz"] == 4000 and told["name"] == "my song.wav"
    picture = imread(io.BytesIO(served.client.get(f"/recordings/{told['id']}/picture").content))
    assert picture.shape[0] == 128 and abs(picture.shape[1] * 0.025 - told["picture_s"]) < 1e-6
    assert picture[:, :70, :3].mean() > 1.1 * picture[:, 90:, :3].mean()  # the loud part is brighter
    session = served.client.get("/session").json()
    assert session["classes"] == list(CLASSES) and [one["id"] for one in session["recordings"]] == [told["id"]]
    assert session["settings"] == {"min_confidence": 0.25, "hop": 1.0, "top_k": 3}


def test_settings_are_those_of_the_detection(served: Served):
    told = served.heard(sound(), min_confidence=0.01, top_k=3, hop=0.5)
    assert len(told["rows"]) == 3 and told["settings"] == {"min_confidence": 0.01, "hop": 0.5, "top_k": 3}
    answer = served.client.post(f"/recordings/{told['id']}/again", params={"min_confidence": "0.99"})
    assert answer.status_code == 200
    again = served.ended(told["id"])
    assert again["rows"] == [] and again["version"] == told["version"] + 1
    same = served.client.post(f"/recordings/{told['id']}/again", params={"min_confidence": "0.99"}).json()
    assert same["version"] == again["version"]  # just so it was heard already


def test_parts_of_a_sound_can_be_asked_for(served: Served):
    content = sound()
    known = served.heard(content)["id"]
    answer = served.client.get(f"/recordings/{known}/sound", headers={"range": "bytes=100-199"})
    assert answer.status_code == 206 and answer.content == content[100:200]


def test_tables(served: Served):
    told = served.heard(sound(), "a, b.wav")
    get = served.client.get
    csv = get(f"/recordings/{told['id']}/table/csv")
    table = pd.read_csv(io.BytesIO(csv.content))
    assert list(table) == ["path", "start_s", "end_s", "species", "confidence", "windows"]
    assert table.path.tolist() == ["a b.wav"] * 2 and table.windows.tolist() == [2, 2]
    assert csv.headers["content-disposition"] == 'attachment; filename="a b.csv"'
    raven = get(f"/recordings/{told['id']}/table/raven").text.splitlines()
    assert raven[0].startswith("Selection\tView") and len(raven) == 3 and "\tPica pica\t" in raven[2]
    assert get(f"/recordings/{told['id']}/table/audacity").text.splitlines()[0] == "0.000000\t2.000000\tApus apus"
    assert served.save(told, (0, "corrected", "Turdus merula"), (1, "no bird", "")).status_code == 200
    assert get(f"/recordings/{told['id']}/table/audacity").text == "0.000000\t2.000000\tTurdus merula\n"
    empty = served.heard(sound((1, 2)), "none.wav", min_confidence=0.9)["id"]
    for kind, lines in (("csv", 1), ("raven", 1), ("audacity", 0)):
        answer = get(f"/recordings/{empty}/table/{kind}")
        assert answer.status_code == 200 and len(answer.text.splitlines()) == lines


@pytest.mark.parametrize("path", ["", "/sound", "/picture", "/table/csv"])
@pytest.mark.parametrize("known", ["0" * 16, "..%2f..%2fserve.json", "%2e%2e", "serve.json"])
def test_only_what_is_known_is_served(served: Served, known: str, path: str):
    served.heard(sound())
    answer = served.client.get(f"/recordings/{known}{path}")
    assert answer.status_code == 404 and answer.json()["problem"]


@pytest.mark.parametrize("path", ["/nothing", "/corrections.csv", "/serve.json", "/../serve.json", "/page.html"])
def test_nothing_else_is_served(served: Served, path: str):
    assert served.client.get(path).status_code == 404


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "../csv"])
def test_other_tables_are_not_made(served: Served, kind: str):
    known = served.heard(sound())["id"]
    assert served.client.get(f"/recordings/{known}/table/{kind}").status_code == 404


def test_a_recording_that_was_removed(served: Served):
    told = served.heard(sound())
    (served.folder / "recordings" / served.files()[0]).unlink()
    assert served.client.get(f"/recordings/{told['id']}/sound").status_code == 404
    answer = served.client.post(f"/recordings/{told['id']}/again", params={"hop": 0.5})
    assert answer.status_code == 404 and "Choose it again" in answer.json()["problem"]
    assert served.upload(sound(), "other name.wav").status_code == 201
    assert served.client.get(f"/recordings/{told['id']}/sound").status_code == 200


def test_the_page_loads_nothing_from_elsewhere_and_says_so(served: Served):
    answer = served.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"https?://|//[a-z]+\.|style=|\son[a-z]+=", answer.text)
    assert "phase 2" in answer.text and "runs/" not in answer.text  # nothing of where it lies


@pytest.mark.parametrize("path", ["/", "/session", "/nothing", "/favicon.ico"])
def test_headers_of_every_answer(served: Served, path: str):
    headers = served.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:7860", 200),
        ("evil.example", 400),
        ("evil.example:7860", 400),
        ("127.0.0.1.evil.example", 400),
        ("192.168.1.5", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_another_site_cannot_stand_for_it_by_a_name_of_its_own(served: Served, host: str, status: int):
    assert served.client.get("/session", headers={"host": host}).status_code == status


def test_names_in_a_network():
    hosts = Hosts("0.0.0.0")
    assert hosts.allows("192.168.1.5:7860") and hosts.allows("[fe80::1]:7860") and hosts.allows("localhost:7860")
    assert not hosts.allows("evil.example:7860")
    assert Hosts("birds.example").allows("birds.example:80") and not Hosts("birds.example").allows("a.birds.example")
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost") and is_loopback("127.3.4.5")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("birds.example")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}, 201),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_another_site_cannot_change_anything(served: Served, headers: dict[str, str], status: int):
    answer = served.client.post("/recordings", params={"name": "a.wav"}, content=sound(), headers=headers)
    assert answer.status_code == status
    assert len(served.files()) == (status == 201)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(served: Served, method: str):
    known = served.heard(sound())["id"]
    assert served.client.request(method, f"/recordings/{known}").status_code == 405


def test_a_picture_of_silence(served: Served):
    told = served.heard(sound((2,), (0,)))
    picture = imread(io.BytesIO(served.client.get(f"/recordings/{told['id']}/picture").content))
    assert np.isfinite(picture).all()
