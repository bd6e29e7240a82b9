"""What is asked of the machine while it is measured."""
