"""The benchmark harness that travels in a bundle, what it is fed, and running it on the host."""
