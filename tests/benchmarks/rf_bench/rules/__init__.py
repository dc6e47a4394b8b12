"""Rules of a placement: what each of them costs an answer, and what diversity gives and takes."""
