"""Who gets what, when: queues, streams, waits, deadlines. Hears of commits from `storage`, asks it; knows no gRPC."""
