"""i-PI's `<ffdirect>` loads the potential from this file; `parameters` in the input go to the driver."""

from dpax.interfaces.ipi_driver import Driver as Driver

__DRIVER_NAME__ = "dpax"
__DRIVER_CLASS__ = "Driver"
