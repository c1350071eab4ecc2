"""Every state that a power cut can leave, and whether the programs recover from it."""
