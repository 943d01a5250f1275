"""multiadapt cache"""

import click

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Frozen computation that is kept from run to run.

    It lies in multiadapt in your folder of caches, or where MULTIADAPT_CACHE says; "off" keeps nothing.
    MULTIADAPT_CACHE_GB is its limit.  [default: 10]
    """


@cache.command()
def info() -> None:
    """What is held: encoder, cut, rows, megabytes, hours since it was used."""
    from multiadapt.cache import Store
    from multiadapt.cli._output import show_table

    store = Store.usual()
    if store is None:
        click.echo("the cache is off")
        return
    import pandas as pd

    held = store.contents()
    size = sum(float(shelf["bytes"]) for shelf in held)
    click.echo(f"{store.folder}: {size / 1e6:,.1f} MB of {store.limit / 1e9:g} GB")
    if held:
        shown = [
            {
                "source": shelf.get("source", "unknown"),
                "cut": shelf.get("cut", ""),
                "rows": shelf["rows"],
                "MB": round(float(shelf["bytes"]) / 1e6, 1),
                "hours": round(float(shelf["idle"]) / 3600, 1),
            }
            for shelf in held
        ]
        show_table(pd.DataFrame(shown))


@cache.command()
def clear() -> None:
    """Throw everything in it away."""
    from multiadapt.cache import Store

    store = Store.usual()
    size = 0 if store is None else store.clear()
    click.echo(f"{size / 1e6:,.1f} MB freed")
