"""The stages of a retrieval: fetch features, encode the user, search, filter."""
