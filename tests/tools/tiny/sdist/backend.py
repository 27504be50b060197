import pathlib
import tomllib
import zipfile


def version():
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
    return project.get("version", "6.1.3")


def metadata():
    text = pathlib.Path("PKG-INFO").read_text()
    return text.replace("6.1.3", version())


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    path = pathlib.Path(directory, f"django-{version()}.dist-info")
    path.mkdir()
    (path / "METADATA").write_text(metadata())
    return path.name


def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = f"django-{version()}.dist-info"
    name = f"django-{version()}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        for path in pathlib.Path("django").rglob("*.py"):
            wheel.write(path)
        wheel.writestr(f"{info}/METADATA", metadata())
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
