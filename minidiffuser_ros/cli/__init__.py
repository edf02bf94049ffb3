"""`minidiffuser …`: one file per subcommand."""
