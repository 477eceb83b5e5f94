"""The documents tell the truth: links lead somewhere, generated tables are current, samples of code run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hermes import __version__
from hermes.events.sink import installed_sinks

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "k8s/README.md")
DOCUMENTS = [*(ROOT / page for page in PAGES), *sorted(ROOT.glob("docs/**/*.md"))]
FORGE = sorted(path for path in ROOT.glob(".github/**/*") if path.is_file())
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(document: Path) -> str:
    return re.sub(r"```.*?```", "", document.read_text(), flags=re.S)


def anchors(document: Path) -> set[str]:
    """The anchors that the headings of a document get, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def python_sample(document: str, word: str) -> str:
    """The one block of Python in a document that has a word in it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", [*DOCUMENTS, *FORGE, ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_command_of_the_repository_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    fenced = "\n".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.M | re.S))
    targets = re.findall(r"(?:`|^    |^\$ |&& )make (?:\w+=\S+ )*([a-z]+)", text, re.M)
    targets += re.findall(r"^make (?:\w+=\S+ )*([a-z]+)", fenced, re.M)
    assert set(targets) <= TARGETS
    scripts = set(re.findall(r"(?<![\w/.-])(?:scripts|\.ci)/[\w-]+(?:\.\w+)*", text))
    assert {script for script in scripts if not (ROOT / script).is_file()} == set()


def test_the_workflow_runs_what_a_contributor_runs_with_no_rights() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.search(r"@(v\d+|[0-9a-f]{40})$", action)] == []
    tested = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert job["strategy"]["matrix"]["python"] == tested


def test_the_changelog_has_a_section_for_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    version = re.escape(__version__)
    assert re.fullmatch(rf"Unreleased|{version} - (unreleased|\d{{4}}-\d\d-\d\d)", headings[0])
    assert any(re.match(rf"{version} - ", heading) for heading in headings)


def test_every_document_can_be_found_from_the_readme() -> None:
    found, left = set(), [ROOT / "README.md"]
    while left:
        document = left.pop()
        if document in found:
            continue
        found.add(document)
        links = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", document.read_text())
        left += [target for link in links if (target := (document.parent / link).resolve()).exists()]
    assert [name_of(document) for document in DOCUMENTS if document not in found] == []


def test_the_metrics_of_the_reference_are_those_of_a_scrape() -> None:
    command = [sys.executable, str(ROOT / "scripts/metrics-table")]
    table = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    text = (ROOT / "docs/reference/metrics.md").read_text()
    written = text.partition("<!-- metrics:begin -->")[2].partition("<!-- metrics:end -->")[0].strip()
    assert written == table, "run scripts/metrics-table --write"


@pytest.mark.parametrize(
    ("script", "page"), [("state-diagrams", "docs/reference/states.md"), ("api-reference", "docs/reference/api.md")]
)
def test_a_page_that_is_made_from_the_code_is_current(script: str, page: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert (ROOT / page).read_text() == made, f"run scripts/{script} --write"


def test_the_readme_lists_the_built_in_sinks() -> None:
    listed = set(re.findall(r"^\| `([\w-]+)` \| .* \|$", (ROOT / "README.md").read_text(), re.M))
    ours = {name for name, point in installed_sinks().items() if point.value.startswith("hermes_sinks.")}
    assert listed == ours


def test_the_sample_of_the_dispatcher_takes_everything() -> None:
    command = [sys.executable, "-c", python_sample("docs/reference/dispatcher.md", "Dispatcher[bytes]")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    assert printed.pop(printed.index("True")) == "True"
    assert sum(int(line.split()[0]) for line in printed) == 10_000
