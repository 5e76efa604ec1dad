"""What tools/bench does: measures pykexec beside Debian's C kexec, and holds the results against targets."""
