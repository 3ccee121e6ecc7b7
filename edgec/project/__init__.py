"""The user's project: edgec.toml as typed records, merged with command-line flags."""
