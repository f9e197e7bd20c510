"""What a classifier can still tell about streamed replies, with and without shaping."""
