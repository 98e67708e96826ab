"""Spiking networks: Legendre memory units, snnTorch and NIR in, a Model out."""
