"""What every implementation of an interface promises, as test classes to subclass."""
