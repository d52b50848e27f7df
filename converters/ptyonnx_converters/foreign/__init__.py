"""Networks of other systems: what is declared about them, how they are checked, and how they get the interface of a bundle."""
