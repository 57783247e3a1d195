"""The documentation of our components, as the UI reads it from a code location."""

import dagster as dg
from dagster.components.core.load_defs import PLUGIN_COMPONENT_TYPES_JSON_METADATA_KEY
from dagster.components.core.snapshot import get_package_entry_snap
from dagster_shared.serdes.objects.package_entry import EnvRegistryKey, json_for_all_components


def component_docs(tree: dg.ComponentTree) -> dg.Definitions:
    """What `dg.load_from_defs_folder` adds for all installed libraries, for the component types that are used here."""
    types = {type(component) for component in tree.get_all_components(of_type=dg.Component)}
    ours = sorted((t for t in types if t.__module__.startswith("ml_assets.")), key=lambda t: t.__name__)
    snaps = [get_package_entry_snap(EnvRegistryKey("ml_assets.components", t.__name__), t) for t in ours]
    return dg.Definitions(
        metadata={PLUGIN_COMPONENT_TYPES_JSON_METADATA_KEY: json_for_all_components(snaps)}, component_tree=tree
    )
