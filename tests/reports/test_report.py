# SPDX-License-Identifier: Apache-2.0
"""The page: self-contained, escaped, well-formed, and there even for runs that broke off."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.made_runs import made_run
from shoal.errors import ConfigError
from shoal.reports.report import write_report

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page loads and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def read(path: Path) -> Page:
    page = Page(path.read_text())
    assert page.loads == [] and not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", path.read_text())
    return page


def test_one_run(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    place = write_report([run])
    assert place == run / "report.html"
    said = " ".join(read(place).said)
    for part in (
        "ppo on CartPole-v1",
        "200.0",
        "2,000",
        "TRAJ × 1,234",
        "waiting: get TRAJ",
        "optimiser.learning_rate",
    ):
        assert part in said
    for part in (
        "shoal train ppo --env CartPole-v1",
        "50% of its time, to get TRAJ",
        "Return by seconds",
        "Loss: policy",
    ):
        assert part in said


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name, name, seed=number) for number, name in enumerate(["ppo", "apex", "seed"])]
    place = write_report(runs, tmp_path / "new" / "folder" / "compared.html")
    text = place.read_text()
    said = " ".join(read(place).said)
    assert "Runs compared" in said and "PRIO learner>replay × 1,234" in said and "mean return of 200" in said
    assert text.count('<svg class="flow"') == 3 and "line series-2" in text
    # the seeds differ, the numbers of actors do not
    assert re.search(r'<tr class="differs"><td class="value">seed', text)
    assert not re.search(r'<tr class="differs"><td class="value">num_actors', text)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b'c", "\udcff", "环境"]
)
def test_names_given_by_users_are_escaped(tmp_path: Path, name: str) -> None:
    run = made_run(tmp_path / "run", env=name)
    facts = json.loads((run / "config.json").read_text())
    facts["config"][name] = name
    facts["hardware"] = name
    (run / "config.json").write_text(json.dumps(facts))
    read(write_report([run]))
    read(write_report([run, made_run(tmp_path / "other")], tmp_path / "both.html"))


def test_a_run_that_broke_off_has_a_report(tmp_path: Path) -> None:
    for missing in (
        ["flow.json"],
        ["metrics.jsonl"],
        ["hardware.json"],
        ["flow.json", "metrics.jsonl", "hardware.json"],
    ):
        run = made_run(tmp_path / "-".join(missing), rows=3)
        for name in missing:
            (run / name).unlink()
        read(write_report([run]))
    run = made_run(tmp_path / "no episode", rows=2)
    assert "No episode ended" in " ".join(read(write_report([run])).said)
    read(write_report([run, made_run(tmp_path / "full")], tmp_path / "both.html"))


def test_numbers_that_are_none_leave_gaps_only(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 2100, "wall_s": 13.0, "episode_return_mean": null, "loss/policy": null}\n')
    read(write_report([run]))


def refusal(run_dirs: list[Path], out: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        write_report(run_dirs, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_faults_are_one_line(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    assert "needs a run folder" in refusal([])
    assert "is no folder" in refusal([tmp_path / "nothing"])
    assert "cannot be written" in refusal([run], run / "config.json" / "report.html")
    assert "is a directory" in refusal([run], run)
    (run / "flow.json").write_text("{")
    assert "flow.json" in refusal([run])
