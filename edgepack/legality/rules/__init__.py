"""One file per kind of rule; a rule is a frozen dataclass whose fields are its options in a profile."""
