"""What the architectures' loaders share. It imports no architecture; differences come in as values."""
