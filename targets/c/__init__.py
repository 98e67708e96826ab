"""The C back end that every family of targets shares."""
