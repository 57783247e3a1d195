"""The documentation of the components, as the UI reads it from a code location.

To derive it from the component classes costs a sixth of `import dagster` in every process, so it is kept in a file;
`python -m ml_assets.orchestration.library` writes it, and a test holds it to the classes.
"""

import json
from pathlib import Path

import dagster as dg
from dagster.components.core.load_defs import PLUGIN_COMPONENT_TYPES_JSON_METADATA_KEY

FILE = Path(__file__).with_name("library.json")


def component_docs(tree: dg.ComponentTree) -> dg.Definitions:
    """What `dg.load_from_defs_folder` adds for all installed libraries, for our components."""
    return dg.Definitions(
        metadata={PLUGIN_COMPONENT_TYPES_JSON_METADATA_KEY: json.loads(FILE.read_text())}, component_tree=tree
    )


def derive() -> str:
    """The documentation of the component classes, as JSON text."""
    from importlib import import_module

    from dagster.components.core.snapshot import get_package_entry_snap
    from dagster_shared.serdes.objects.package_entry import EnvRegistryKey, json_for_all_components

    module = import_module("ml_assets.components")
    names = ("Table", "FeatureView", "Model", "Endpoint")
    snaps = [get_package_entry_snap(EnvRegistryKey(module.__name__, name), getattr(module, name)) for name in names]
    return json.dumps(json_for_all_components(snaps), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(derive())
