"""i-PI's `<ffdirect>` loads the potential from here; `parameters` in the input are the driver's arguments."""

from dpax.interfaces.ipi_driver import Driver as Driver

__DRIVER_NAME__ = "dpax"
__DRIVER_CLASS__ = "Driver"
