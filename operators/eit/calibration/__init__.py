"""What a measurement without objects says of a tank: its content, contacts, electrodes, instrument."""
