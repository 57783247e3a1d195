from ml_assets.adapters.settings import Settings
from ml_assets.demo.development import hint
from ml_assets.orchestration.loading import Location


def test_only_the_shipped_example_is_told_to_land_flights(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path))
    settings = Settings.from_environment()
    (tmp_path / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "shop"\n')
    assert "ml-assets feed flights --until 2013-01-31" in hint(settings, Location.of(tmp_path / "elsewhere"))
    assert not hint(settings, Location.of(tmp_path))
