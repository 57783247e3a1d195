import io

from rich.console import Console

from ml_assets.demo.display import Display, described, picture
from ml_assets.demo.graph import AssetState, CheckState, RunState, Snapshot
from ml_assets.demo.progress import rows

RUN = RunState("1", "STARTED", ("tables/flights", "raw/flights"), 1.0, None, "2013-01-01..2013-01-03")
BUILDING = Snapshot(
    {
        "raw/flights": AssetState("raw/flights", True, 1.0, 3, "2013-01-03", (CheckState("kept", True),)),
        "tables/flights": AssetState("tables/flights", True),
        "models/delay": AssetState("models/delay", False),
    },
    [RUN],
)


def in_a_file(*snapshots):
    file = io.StringIO()
    with Display(Console(file=file, width=120)) as display:
        for second, snapshot in enumerate(snapshots):
            display.show(snapshot, float(second), [])
    return file.getvalue()


def on_a_terminal(snapshot, done=None, waits_for=()):
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    console.print(picture(rows(snapshot), done or {}, snapshot.runs, 12.0, waits_for))
    return console.file.getvalue()


def test_a_file_gets_plain_lines_without_escape_codes():
    text = in_a_file(BUILDING)
    assert "\x1b" not in text
    assert "0.0 s  started   tables/flights, raw/flights 2013-01-01..2013-01-03" in text
    assert "raw: complete" in text


def test_a_file_gets_each_change_once():
    ended = Snapshot(BUILDING.assets, [RunState("1", "FAILURE", RUN.assets, 1.0, 2.0, RUN.partitions)])
    text = in_a_file(BUILDING, BUILDING, ended, ended)
    assert text.count("started ") == 1
    assert text.count("failure ") == 1
    assert text.count("raw: complete") == 1


def test_a_terminal_gets_one_row_for_each_layer_with_what_runs_in_it():
    lines = on_a_terminal(BUILDING, {"raw": 4.0}).splitlines()
    layers = {line.split()[0]: line for line in lines if line.strip()}
    assert "1/1" in layers["raw"]
    assert "1 passed" in layers["raw"]
    assert "2013-01-03" in layers["raw"]
    assert "4 s" in layers["raw"]
    assert "0/1" in layers["tables"]
    assert layers["tables"].rstrip().endswith("flights")
    assert "0/1" in layers["models"]


def test_a_terminal_says_what_is_waited_for_when_nothing_runs():
    at_rest = Snapshot(BUILDING.assets)
    assert "waits for models/delay" in on_a_terminal(at_rest, waits_for=["models/delay"])


def test_failed_checks_stand_out_beside_the_passed_ones():
    checks = (CheckState("a", True), CheckState("b", False), CheckState("c", False, True))
    snapshot = Snapshot({"raw/x": AssetState("raw/x", False, 1.0, checks=checks)})
    assert "1 passed 1 warned 1 failed" in on_a_terminal(snapshot)


def test_names_with_brackets_are_shown_as_they_are():
    file = io.StringIO()
    display = Display(Console(file=file, width=120))
    display.say("drift [red]not markup[/red]")
    assert file.getvalue() == "drift [red]not markup[/red]\n"


def test_a_run_of_many_assets_is_cut_short():
    many = RunState("1", "STARTED", tuple(f"features/{name}" for name in "abcde"))
    assert described(many) == "features/a, features/b, features/c and 2 more"
