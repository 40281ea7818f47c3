"""What a person sees of a training: a live line that says where it stands, and talk that does not run into it."""

import io
import re
import sys
from dataclasses import replace

import pytest

from cifarnet.cli.display import TrainingDisplay, wrapped
from cifarnet.data import CIFAR10_LABELS  # noqa: F401
