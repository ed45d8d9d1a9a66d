"""Other libraries: their operators as ours, our operators and manifolds as theirs.

``onmanifold.as_operator`` finds the modules by the entry points of the group ``onmanifold.adapters``. It
imports a module only when it is given an object of that library.
"""
