"""Meshes: made by gmsh or by rings, read from files, and the pixels over their cells."""
