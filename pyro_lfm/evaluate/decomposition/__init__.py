"""What a bound consists of."""
