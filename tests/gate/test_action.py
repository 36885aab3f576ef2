"""The composite action and the workflows of the documentation: their steps, run here as a runner would."""
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
#: What a commit of the user's does to pvfast, whose patch function of bare hardware is the thing under test.
CHANGES = {
    "nothing": "",
    "regresses": 'NATIVE_CODE = {**NATIVE_CODE, "irq_disable": ("pushes, pops; cli", bytes.fromhex("50585058fa"))}',
    "improves": 'NATIVE_CODE = {**NATIVE_CODE, "irq_disable": ("nothing", b"")}',
}
SITE = """
import importlib.abc, importlib.machinery, sys
class Changed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "pvfast.paravirt.hypervisors.native":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def changed(module):
            execute(module)
            exec({change!r}, vars(module))
        spec.loader.exec_module = changed
        return spec
import importlib.util
sys.meta_path.insert(0, Changed())
"""
PYTHON = 'if [ "$1 $2" = "-m pip" ]; then shift 2; exec pip "$@"; fi; exec PYTHON "$@"'
PIP = """echo "$@" >> "$PIP_TOLD"
if [ "$1" = wheel ]; then mkdir -p "$RUNNER_TEMP/pvfast"; touch "$RUNNER_TEMP/pvfast/pvfast-0-built.whl"; fi"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's repository with a baseline."""
    if not ACTION.exists():
        pytest.skip("the action is in the repository, not in the installed package")
    place = tmp_path_factory.mktemp("project")
    subprocess.run([sys.executable, "-m", "pvfast", "gate", "update"], cwd=place, env=environment(place, ""),
                   check=True, capture_output=True)
    return place


def environment(place: Path, change: str, **more: str) -> dict[str, str]:
    """With a `pvfast` on the path and, when asked, a change to what it imports; pip only notes what it was told."""
    bin_ = place / "bin"
    bin_.mkdir(exist_ok=True)
    for name, code in (("pvfast", f'exec {sys.executable} -m pvfast "$@"'), ("python", PYTHON), ("pip", PIP)):
        (bin_ / name).write_text(f"#!/bin/sh\n{code}\n".replace("PYTHON", sys.executable))
        (bin_ / name).chmod(0o755)
    (place / "site").mkdir(exist_ok=True)
    (place / "site" / "sitecustomize.py").write_text(SITE.format(change=change) if change else "")
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{place / 'site'}{os.pathsep}{ROOT}", "GITHUB_STEP_SUMMARY": str(place / "summary.md"),
            "GITHUB_OUTPUT": str(place / "output"), "GITHUB_ACTION_PATH": str(ROOT), "RUNNER_TEMP": str(place / "temp"),
            "GITHUB_ACTIONS": "true", "PIP_TOLD": str(place / "pip.txt"), **more}


def run_script(script: str, place: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=place, env=variables,
                          capture_output=True, text=True, timeout=300)


def run_action(place: Path, change: str) -> subprocess.CompletedProcess[str]:
    """The action's last step; what it installs is here already."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    defaults = {name: value["default"] for name, value in action["inputs"].items()}
    check = action["runs"]["steps"][-1]
    values = {name: defaults[text.removeprefix("${{ inputs.").removesuffix(" }}")]
              for name, text in check["env"].items()}
    (place / "summary.md").unlink(missing_ok=True)
    return run_script(check["run"], place, environment(place, change, **values))


@pytest.mark.parametrize(("what", "status"), [("nothing", 0), ("regresses", 1), ("improves", 4)])
def test_a_commit_that(what: str, status: int, project: Path) -> None:
    done = run_action(project, CHANGES[what])
    assert done.returncode == status, done.stdout + done.stderr
    assert (project / "pvfast-gate.xml").read_text().startswith("<?xml")
    summary = (project / "summary.md").read_text()
    if what == "regresses":
        assert "native/irq_disable" in summary
        assert "+ pushl %eax" in done.stdout            # explained
        assert "::error" in done.stderr
    elif what == "improves":
        assert "pvfast gate update" in done.stdout
    else:
        assert "pass" in done.stdout


def test_what_the_action_installs(project: Path) -> None:
    """Without a wheel it builds one of the commit that it is of, and knows it again; pip's part is only noted here."""
    steps = [step for step in yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"] if "run" in step]
    source, build, install, _ = (step["run"] for step in steps)
    wheel = project / "temp" / "pvfast" / "pvfast-0-built.whl"
    for name in ("pip.txt", "output"):
        (project / name).unlink(missing_ok=True)
    for script in (source, build, install):
        assert run_script(script, project, environment(project, "")).returncode == 0
    assert re.fullmatch(r"key=pvfast-\S*cpython\S*-[0-9a-f]{64}\n", (project / "output").read_text())
    assert run_script(install, project, environment(project, "", INSTALL="mine.whl")).returncode == 0
    assert (project / "pip.txt").read_text().splitlines() == [
        f"wheel --quiet --no-deps --wheel-dir {wheel.parent} {ROOT}", f"install --quiet {wheel}",
        "install --quiet mine.whl"]


def workflows(page: str) -> list[dict[str, Any]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_the_github_workflow_uses_the_action_as_it_is() -> None:
    github, _ = workflows("gate.md")
    *_, step = github["jobs"]["gate"]["steps"]
    assert step == {"uses": "OWNER/pvfast@COMMIT"}


def test_the_gitlab_job_checks(project: Path) -> None:
    _, gitlab = workflows("gate.md")
    job = gitlab["gate"]
    (project / "gate.xml").unlink(missing_ok=True)
    for line in job["script"]:
        done = run_script(line, project, environment(project, "", **job["variables"]))
        assert done.returncode == 0, done.stderr
    assert (project / job["artifacts"]["reports"]["junit"]).read_text().startswith("<?xml")
    assert (project / "pip.txt").read_text().endswith(f"install pvfast @ {job['variables']['PVFAST']}\n")
