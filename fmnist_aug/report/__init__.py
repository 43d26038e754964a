"""Tables for the terminal, figures, and one page that tells what a comparison found."""

from fmnist_aug.report.galleries import Mislabelled, mislabelled_images
from fmnist_aug.report.tables import headline, render_tables
from fmnist_aug.report.writing import write_report

__all__ = [
    "Mislabelled",
    "headline",
    "mislabelled_images",
    "render_tables",
    "write_report",
]
