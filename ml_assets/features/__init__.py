"""Feature views on a grid, the point-in-time join, leak proofs, and the encoding that training and serving share."""
