"""The simulator contract, the processes that simulators run in, and the bundled simulators."""
