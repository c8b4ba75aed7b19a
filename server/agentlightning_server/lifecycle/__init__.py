"""The rules of rollouts and attempts as pure functions: no clock, no I/O, no protobuf, nothing of ours imported."""
