"""What codes are good for: known factors, matching, labels."""
