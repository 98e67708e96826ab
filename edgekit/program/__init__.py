"""Program: the small integer form that is interpreted and emitted as C."""
