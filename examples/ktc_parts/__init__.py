"""How ``ktc_tank.py`` reconstructs measured water tanks."""
