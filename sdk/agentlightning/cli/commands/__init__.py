"""The commands of `agl`, a module each; of `runs` and `rollouts`, what changes or follows has its own."""
