"""Measured voltages: files, noise, bad channels, calibration."""
