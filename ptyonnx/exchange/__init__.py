"""Between runs, bundles and other systems: train, export, import, adopt, verify, and profiles for other readers."""
