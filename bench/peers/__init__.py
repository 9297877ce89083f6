"""Peers: what a user would pick instead, of single stages and of the whole line."""
