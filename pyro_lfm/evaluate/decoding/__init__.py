"""What a decoder does with its factors."""
