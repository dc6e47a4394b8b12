"""Training by several processes: process group, placement of embedding tables, and failures."""
