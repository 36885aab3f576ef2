"""The composite action and the workflow of the documentation: their steps, run here as a runner would."""
import os
import subprocess
import sys
from pathlib import Path

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
    """With a `pvfast` on the path and, when asked, a change to what it imports."""
    bin_ = place / "bin"
    bin_.mkdir(exist_ok=True)
    for name in ("pvfast", "python"):
        script = bin_ / name
        arguments = "-m pvfast " if name == "pvfast" else ""
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        script.chmod(0o755)
    (place / "site").mkdir(exist_ok=True)
    (place / "site" / "sitecustomize.py").write_text(SITE.format(change=change) if change else "")
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{place / 'site'}{os.pathsep}{ROOT}", "GITHUB_STEP_SUMMARY": str(place / "summary.md"),
            "GITHUB_ACTIONS": "true", **more}


def run_action(place: Path, change: str) -> subprocess.CompletedProcess[str]:
    """The action's last step; what it installs is here already."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    defaults = {name: value["default"] for name, value in action["inputs"].items()}
    install, check = action["runs"]["steps"]
    assert install["run"] == 'python -m pip install --quiet "$INSTALL"'
    values = {name: defaults[text.removeprefix("${{ inputs.").removesuffix(" }}")]
              for name, text in check["env"].items()}
    (place / "summary.md").unlink(missing_ok=True)
    return subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", check["run"]], cwd=place,
                          env=environment(place, change, **values), capture_output=True, text=True, timeout=300)


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


def test_the_workflows_of_the_documentation_run_what_exists() -> None:
    """Each command line of them is one that this pvfast understands."""
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    lines = [line.split("pvfast ", 1)[1].split("#")[0] for line in page.splitlines()
             if "- run: pvfast " in line or "- pvfast " in line]
    assert lines
    for line in lines:
        command, subcommand, *arguments = line.split()
        shown = subprocess.run([sys.executable, "-m", "pvfast", command, subcommand, "--help"], capture_output=True,
                               text=True, cwd=ROOT, timeout=60)
        assert shown.returncode == 0
        assert all(option in shown.stdout for option in arguments if option.startswith("--"))
