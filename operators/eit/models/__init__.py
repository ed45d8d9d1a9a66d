"""What is driven and measured, and the equations for it."""
