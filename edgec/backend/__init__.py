"""The backend protocol, the registry of backends, and the process that compiles one artifact."""
