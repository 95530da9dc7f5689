"""Pages that people open: one HTML file each that loads nothing and reads without a script."""
