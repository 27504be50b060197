import pathlib


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    path = pathlib.Path(directory, "django-6.1.3.dist-info")
    path.mkdir()
    (path / "METADATA").write_text(pathlib.Path("PKG-INFO").read_text())
    return path.name
