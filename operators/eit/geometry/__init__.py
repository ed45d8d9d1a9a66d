"""Bodies with electrodes on their surface."""
