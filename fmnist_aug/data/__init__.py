"""Reading labelled images: the packaged sets, IDX folders, image folders."""

from fmnist_aug.data.dataset import DatasetCard, ImageDataset, Split, require_training_data
from fmnist_aug.data.loading import find_dataset_files, load_dataset, write_idx_folder
from fmnist_aug.data.named import NAMED_DATASETS
from fmnist_aug.data.pictures import Pictures, find_pictures, read_pictures
from fmnist_aug.data.splits import check_split, held_out_split, stratified_slice
from fmnist_aug.data.streaming import Images, StreamedImages, blocks

__all__ = [
    "NAMED_DATASETS",
    "DatasetCard",
    "ImageDataset",
    "Images",
    "Pictures",
    "Split",
    "StreamedImages",
    "blocks",
    "check_split",
    "find_dataset_files",
    "find_pictures",
    "held_out_split",
    "load_dataset",
    "read_pictures",
    "require_training_data",
    "stratified_slice",
    "write_idx_folder",
]
