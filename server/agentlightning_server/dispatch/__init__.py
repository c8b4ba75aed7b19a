"""Who gets what, when: queues, waits, deadlines. Hears of commits from `storage` and asks it; knows no gRPC."""
