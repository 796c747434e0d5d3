"""The whole service on one machine: launcher, servers, simulators and the demo."""
