"""How the bundled demo model is made: its facts, its training text, its training and its marks."""
