"""``python -m fmnist_aug``: the command line."""

from fmnist_aug.cli import main

main()
