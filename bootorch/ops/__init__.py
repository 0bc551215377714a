"""Commands made of the parts below: rehearsals."""
