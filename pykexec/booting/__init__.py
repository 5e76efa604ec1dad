"""What the architectures' loaders share. It imports no architecture; what differs comes in as a value."""
