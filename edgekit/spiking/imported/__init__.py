"""Networks of snnTorch neurons in."""
