"""The services: translate calls and nothing else. The only place of the server that knows gRPC."""
