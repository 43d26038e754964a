"""Faults and bad inputs; ``pytest -m fault`` tests them all and shows the table, row by row."""
