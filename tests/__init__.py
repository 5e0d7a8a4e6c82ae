"""The tests of tunctl: unit (no root), netns (the real kernel), house (the rules of the building)."""
