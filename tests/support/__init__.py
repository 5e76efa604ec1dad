"""What several kinds of tests build their inputs with."""
