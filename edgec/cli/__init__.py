"""The command line: one verb a file. Only this package prints, and only `edgec.cli.main.main` exits."""
