"""Commands made of the parts."""
