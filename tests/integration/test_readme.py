"""The README does what it says: its blocks are run, its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from forebay.contract.notices import delivery_id
from tests.fixtures.stack import ROOT, Stack
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

FOREBAY = f"{sys.executable} -m forebay.cli"
README = (ROOT / "README.md").read_text("utf-8")
WRITES = "smollm2"
"""The model that writes: blocks that ask it are run where its other tests are."""

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
CODE = re.compile(r"^ *```.*?^ *```$|`[^`]+`", re.MULTILINE | re.DOTALL)
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def links(page: Path) -> list[str]:
    """Where a page's links lead; what stands in code is none."""
    return LINK.findall(CODE.sub("", page.read_text("utf-8")))


def blocks(language: str) -> list[str]:
    """The README's code blocks in that language."""
    return [body for found, body in BLOCK.findall(README) if found == language]


def ready(language: str) -> list[str]:
    """Those that ask for nothing of the model that writes, whose build takes a while."""
    return [block for block in blocks(language) if WRITES not in block]


def here(text: str, stack: Stack) -> str:
    """The block against the test's stack and this environment instead of the usual ones."""
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{stack.port}").replace(
        ".venv/bin/forebay", f"{sys.executable} -m forebay.cli"
    )


def run(command: list[str], stack: Stack) -> str:
    """Run it as a reader would; returns what it printed."""
    own = stack.home
    # An answer of 400 and more is a failure here, though the reader's curl shows it as any other.
    (own / ".curlrc").write_text("fail-with-body\n")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            "FOREBAY_HOME": str(own),
            "FOREBAY_PORT": str(stack.port),
            "CURL_HOME": str(own),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(ready("sh"))))
def test_every_shell_block_of_the_readme_runs(stack: Stack, number: int) -> None:
    script = here(ready("sh")[number], stack)
    assert run(["bash", "-euc", script], stack).strip()


@pytest.mark.parametrize("number", range(len(ready("python"))))
def test_every_python_block_of_the_readme_runs(stack: Stack, number: int) -> None:
    printed = run([sys.executable, "-c", here(ready("python")[number], stack)], stack)
    assert "384 dimensions" in printed


def test_the_commands_that_up_prints_run_as_they_are(stack: Stack) -> None:
    lines = stack.output.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip() == "Try:") + 1
    commands = [line.strip() for line in lines[first : first + 3]]
    assert len(commands) == 3
    for command in commands:
        assert run(["bash", "-euc", command], stack).strip(), command


def test_what_the_page_about_webhooks_shows_runs(stack: Stack) -> None:
    found = BLOCK.findall((ROOT / "docs" / "webhooks.md").read_text("utf-8"))
    nobody = "http://127.0.0.1:9"  # nobody listens there

    def bash(text: str) -> str:
        text = here(text, stack).replace("https://example.com", nobody)
        return run(["bash", "-euc", re.sub("(?m)^forebay", FOREBAY, text)], stack)

    create, endpoints, secret, own, sent = [body for language, body in found if language == "sh"]
    made = json.loads(bash(create))
    assert nobody in bash(endpoints)
    before = bash("forebay webhooks secret").strip()
    rotated, shown = bash(own).splitlines()
    assert rotated == shown != before
    bash(f"forebay webhooks endpoints remove {nobody}/hooks/openai")
    key, told = bash(secret).splitlines()
    assert json.loads(told) == {"key": key}
    id_ = delivery_id(made["id"], "completed")
    eventually_sync(lambda: id_ in bash("forebay webhooks list"), what="the webhook is listed")
    assert f"of          {made['id']}, completed" in bash(re.sub(r"\bID\b", id_, sent))

    (receive,) = [body for language, body in found if language == "python"]
    read: dict[str, Any] = {}
    exec(receive, read)
    now = datetime.now(UTC)
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(key).sign(id_, now, '{"a": 1}'),
    }
    assert read["receive"](key, headers, b'{"a": 1}') == {"a": 1}


def test_the_readme_has_something_to_run_in_each_language() -> None:
    assert len(blocks("sh")) >= 3
    assert blocks("python")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_of_the_docs_is_reachable_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.is_dir():
            waiting += sorted(page.glob("*.md"))
        elif page.suffix == ".md":
            for target in links(page):
                waiting.append((page.parent / target).resolve())
    assert [page for page in PAGES if page.resolve() not in reached] == []
