"""The embedded subset of MNIST: 5,000 training and 1,000 test images. ATTRIBUTION.md says whose they are."""
