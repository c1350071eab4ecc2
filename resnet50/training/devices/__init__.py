"""The devices that train: one GPU or CPU, several GPUs, several hosts."""
