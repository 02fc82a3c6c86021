"""Training DPA-1 models."""

from dpax.train.loop import TrainResult as TrainResult
from dpax.train.loop import train as train
from dpax.train.settings import InputSettings as InputSettings
from dpax.train.settings import read_settings as read_settings
