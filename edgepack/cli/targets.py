"""`edgepack targets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, show and check target profiles."
)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the targets edgepack knows."""
    from edgepack.cli.show import print_json, targets_table
    from edgepack.targets import list_targets

    profiles = list_targets()
    if json:
        print_json([p.model_dump(mode="json") for p in profiles])
    else:
        targets_table(profiles)


@app.command(epilog="Example: edgepack targets show android > my-phone.yaml")
def show(
    name: Annotated[str, typer.Argument(help="A target's name or YAML file.", show_default=False)],
    json: Json = False,
) -> None:
    """Print a target's whole profile, with what it extends merged in, as YAML."""
    import yaml

    from edgepack.cli.show import print_json
    from edgepack.targets import load_target

    profile = load_target(name)
    if json:
        print_json(profile.model_dump(mode="json"))
    else:
        typer.echo(
            yaml.safe_dump(profile.as_yaml_data(), sort_keys=False, allow_unicode=True), nl=False
        )


@app.command(epilog="Example: edgepack targets check ./my-board.yaml")
def check(
    file: Annotated[Path, typer.Argument(help="A profile of your own.", show_default=False)],
    json: Json = False,
) -> None:
    """Check a profile file: keys, values, steps and what it extends."""
    from edgepack.cli.show import print_json
    from edgepack.targets import load_file

    profile = load_file(file)
    if json:
        print_json({"file": str(file), "name": profile.name, "valid": True})
    else:
        typer.echo(f"{file}: valid ({profile.name}: {profile.title})")
