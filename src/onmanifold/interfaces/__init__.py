"""Other libraries: their operators here, our operators and manifolds there; one module for each.

``onmanifold.as_operator`` finds them by the entry points of the group ``onmanifold.adapters``. Nothing here
is imported before an object of the library turns up, or before it is asked for by name.
"""
