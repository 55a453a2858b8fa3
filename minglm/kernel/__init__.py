"""Around the kernel: the extension, lengths on their device, GELU, and PyTorch's own in two calls."""
