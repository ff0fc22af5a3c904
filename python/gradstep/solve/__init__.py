"""Minimisation to convergence: what evaluates the user's function, what ends a search, and the methods."""
