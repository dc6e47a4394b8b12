"""Exports of a made-up shop, as a data scientist gets them: CSV files to be described by a mapping, and that mapping."""

import csv
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rf_platform.errors import UsageError
from rf_platform.staging import staged

KINDS = {"tea": (4, 18), "coffee": (6, 22), "cup": (5, 30), "pot": (15, 60)}
"""Kinds of products, with the range of their prices in euros."""
BRANDS = ("Alba", "Brook", "Cedar", "Dune", "Ember")
PRODUCTS, CUSTOMERS, ORDERS = 60, 200, 12
"""Products, customers, and orders of each customer."""
LOYAL = 0.8
"""Share of a customer's orders that are of the kind that the customer likes."""
_FIRST = datetime(2026, 1, 10, 12, tzinfo=UTC)
MAPPING = """\
name: shop
interactions:
  file: orders.csv
  user: customer
  item: sku
  timestamp: {column: ordered_at, format: "%d.%m.%Y %H:%M"}
  timezone: Europe/Berlin
items:
  file: products.csv
  item: sku
  decimal: ","
  attributes:
    title: {column: product_name, display: true}
    kind: kind
    brand: brand
    price: price
"""


def write_shop(directory: Path, seed: int = 0) -> list[Path]:
    """Write ``products.csv``, ``orders.csv`` and ``shop.yaml`` into a new directory; equal seeds give equal files.

    Every customer likes one kind of product, prices have decimal commas, and times are local ones: there is something to learn,
    and something to describe.

    Raises:
        UsageError: the directory is there already, and is not empty.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"--shop {directory} is there already; name a new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.is_dir():
        directory.rmdir()
    rng = random.Random(seed)
    kinds = list(KINDS)
    kind_of = {f"{kinds[n % len(kinds)]}-{n}": kinds[n % len(kinds)] for n in range(1, PRODUCTS + 1)}
    with staged(directory, ".making-") as made:
        _write(made / "products.csv", ["sku", "product_name", "kind", "brand", "price"], _products(rng, kind_of))
        _write(made / "orders.csv", ["customer", "sku", "ordered_at"], _orders(rng, kind_of))
        (made / "shop.yaml").write_text(MAPPING, encoding="utf-8")
    return [directory / name for name in ("products.csv", "orders.csv", "shop.yaml")]


def _products(rng: random.Random, kind_of: dict[str, str]) -> Iterable[Sequence[str]]:
    for sku, kind in kind_of.items():
        brand, price = rng.choice(BRANDS), rng.uniform(*KINDS[kind])
        yield sku, f"{brand} {kind} No. {sku.partition('-')[2]}", kind, brand, f"{price:.2f}".replace(".", ",")


def _orders(rng: random.Random, kind_of: dict[str, str]) -> Iterable[Sequence[str]]:
    every, kinds = list(kind_of), list(KINDS)
    for customer in range(1, CUSTOMERS + 1):
        liked = [sku for sku, kind in kind_of.items() if kind == kinds[customer % len(kinds)]]
        moment = _FIRST + timedelta(hours=rng.randrange(24 * 60))
        for _ in range(ORDERS):
            moment += timedelta(hours=rng.randrange(1, 24 * 20))
            sku = rng.choice(liked if rng.random() < LOYAL else every)
            yield str(customer), sku, f"{moment:%d.%m.%Y %H:%M}"


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(head)
        lines.writerows(rows)
