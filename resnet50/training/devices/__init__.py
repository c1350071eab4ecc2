"""The GPU, the CPU or the several devices that train."""
