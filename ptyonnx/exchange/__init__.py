"""Runs and bundles: train, export, import, adopt networks of other systems, verify, and write profiles for them."""
