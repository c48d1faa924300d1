"""Which hosts there are and how to reach them. Imports no sibling package."""

from inventory.errors import InventoryError
from inventory.loader import find_inventory, load_inventory
from inventory.model import ContainerSettings, Group, Host, Inventory, Mirrors, Repository

__all__ = [
    "ContainerSettings",
    "Group",
    "Host",
    "Inventory",
    "InventoryError",
    "Mirrors",
    "Repository",
    "find_inventory",
    "load_inventory",
]
