"""Task cards: what the tasks of a stream are, how large, what guessing gives, what is reached, and how they look."""
