"""Training by several processes: who takes part, how tables are spread over them, and what happens when one is lost."""
