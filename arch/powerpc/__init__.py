"""What the powerpc architectures share: ppc64le, ppc64. No architecture by itself."""
