"""What is measured of a network: parity, placement, how far it reaches."""
