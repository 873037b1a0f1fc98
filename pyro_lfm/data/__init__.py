"""Batches, readers for data of any kind, and data sets to try the library on."""

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.binarized import Binarized
from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.data.datasets import Labelled, digits, from_torchvision, import_torchvision
from pyro_lfm.data.fashion import fashion_mnist
from pyro_lfm.data.files.opening import open
from pyro_lfm.data.files.parquet_rows import ParquetRows
from pyro_lfm.data.files.picture_folder import PictureFolder
from pyro_lfm.data.pictures.faces import draw_faces, faces
from pyro_lfm.data.pictures.scenes import Scenes
from pyro_lfm.data.pictures.sprites import draw_sprites, sprites
from pyro_lfm.data.readers import Table, read
from pyro_lfm.data.shuffled_files.shuffling import shuffle
from pyro_lfm.data.validation import validate

__all__ = [
    "Batch",
    "Binarized",
    "CsvFile",
    "Labelled",
    "ParquetRows",
    "PictureFolder",
    "Scenes",
    "Table",
    "digits",
    "draw_faces",
    "draw_sprites",
    "faces",
    "fashion_mnist",
    "from_torchvision",
    "import_torchvision",
    "open",
    "read",
    "shuffle",
    "sprites",
    "validate",
]
